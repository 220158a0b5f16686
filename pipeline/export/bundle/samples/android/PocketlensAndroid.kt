// What both runtimes need of Android: the contract and the golden files from the assets, bitmaps as pictures.

package pocketlens

import android.content.Context
import android.graphics.Bitmap
import android.graphics.BitmapFactory
import org.json.JSONArray
import org.json.JSONObject

/** The golden pictures through the resize, the golden inputs through `run`, against the golden answers. */
fun selfTest(context: Context, contract: Contract, target: String, run: (ByteArray) -> List<FloatArray>): List<String> {
    fun open(name: String) = context.assets.open("model/golden/$name")
    val note = JSONObject(open("golden.json").bufferedReader().readText())
    val tolerance = note.getJSONObject("tolerances").getDouble(target)
    val inputs = readNpz(open("golden.npz")).getValue("image")
    val answers = readNpz(open("$target.npz"))
    val wrong = mutableListOf<String>()
    for ((i, name) in strings(note.getJSONArray("images")).withIndex()) {
        val plain = BitmapFactory.Options().apply { inScaled = false }
        val bitmap = requireNotNull(BitmapFactory.decodeStream(open(name), null, plain)) { "$name: not a picture" }
        val off = resizeIsOff(toCanvas(toPicture(bitmap), contract).first, inputs.bytes(i))
        if (off > LEVELS) wrong += "golden/$name: $off of 255 off after the resize"
        for ((output, found) in contract.outputs.zip(run(inputs.bytes(i)))) {
            val share = outputIsOff(found, answers.getValue(output).floats(i))
            if (!(share <= tolerance)) wrong += "picture $i: output $output is $share of its range off"
        }
    }
    return wrong
}

fun toPicture(bitmap: Bitmap): Picture {
    val pixels = IntArray(bitmap.width * bitmap.height)
    bitmap.getPixels(pixels, 0, bitmap.width, 0, 0, bitmap.width, bitmap.height) // ARGB, 8 bits each
    val rgb = ByteArray(pixels.size * 3) { (pixels[it / 3] shr (16 - 8 * (it % 3))).toByte() }
    return Picture(bitmap.width, bitmap.height, rgb)
}

fun readContract(preprocess: String, labels: String): Contract {
    val json = JSONObject(preprocess)
    val decode = json.getJSONObject("decode")
    val anchors = decode.optJSONArray("anchors") ?: JSONArray()
    return Contract(
        kind = decode.getString("kind"),
        labels = labels.trimEnd('\n').split("\n"),
        landmarks = decode.getInt("landmarks"),
        size = json.getJSONObject("input").getJSONArray("shape").getInt(1),
        resize = json.getString("resize"),
        fill = json.optJSONArray("fill")?.getInt(0) ?: 0,
        outputs = strings(json.getJSONArray("outputs")),
        preprocess = each(json.getJSONArray("preprocess")) { steps, i ->
            steps.getJSONObject(i).let { Step(it.getString("step"), it.optInt("side")) }
        },
        score = decode.optDouble("score", 0.0),
        boxes = decode.optString("boxes"),
        strides = (decode.optJSONArray("strides") ?: JSONArray()).let { a -> List(a.length()) { a.getInt(it) } },
        anchors = each(anchors) { level, i ->
            each(level.getJSONArray(i)) { anchor, j ->
                anchor.getJSONArray(j).let { sides -> List(sides.length()) { sides.getDouble(it) } }
            }
        },
        beforeNms = decode.optInt("before_nms"),
        nms = decode.optString("nms"),
        nmsIou = decode.optDouble("nms_iou", 0.0),
        voteIou = decode.optDouble("vote_iou", 0.0),
        softSigma = decode.optDouble("soft_sigma", 0.0),
        maxObjects = decode.optInt("max_objects"),
        calibration = decode.optJSONObject("calibration")?.let {
            Calibration(
                by = it.getString("by"),
                slope = it.optDouble("slope", 0.0),
                offset = it.optDouble("offset", 0.0),
                scores = numbers(it.optJSONArray("scores")),
                right = numbers(it.optJSONArray("right")),
            )
        },
    )
}

private fun numbers(array: JSONArray?) = List(array?.length() ?: 0) { array!!.getDouble(it) }

private fun <T> each(array: JSONArray, read: (JSONArray, Int) -> T) = List(array.length()) { read(array, it) }

private fun strings(array: JSONArray) = List(array.length()) { array.getString(it) }
