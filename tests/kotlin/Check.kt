// What tests/test_samples.py runs on a JVM: for each folder in the arguments, the pictures through the resize and the
// outputs through the decoding of the Android sample.

package pocketlens

import java.io.File

fun main(folders: Array<String>) = folders.map(::File).forEach { folder ->
    val told = File(folder, "contract.txt").readLines().associate { it.substringBefore("=") to it.substringAfter("=") }
    fun words(key: String) = told.getValue(key).split("|").filter { it.isNotEmpty() }
    val contract = Contract(
        kind = told.getValue("kind"), labels = words("labels"), landmarks = told.getValue("landmarks").toInt(),
        size = told.getValue("size").toInt(), resize = told.getValue("resize"), fill = told.getValue("fill").toInt(),
        outputs = words("outputs"),
        preprocess = words("preprocess").map { Step(it.substringBefore(":"), it.substringAfter(":", "0").toInt()) },
        score = told.getValue("score").toDouble(),
        boxes = told.getValue("boxes"),
        strides = words("strides").map { it.toInt() },
        anchors = words("anchors").map { level -> level.split(",").map { it.toDouble() }.chunked(2) },
        beforeNms = told.getValue("before_nms").toInt(), nms = told.getValue("nms"),
        nmsIou = told.getValue("nms_iou").toDouble(), voteIou = told.getValue("vote_iou").toDouble(),
        softSigma = told.getValue("soft_sigma").toDouble(), maxObjects = told.getValue("max_objects").toInt(),
        calibration = told["by"]?.let { by ->
            fun numbers(key: String) = words(key).map { it.toDouble() }
            Calibration(
                by = by, slope = told.getValue("slope").toDouble(), offset = told.getValue("offset").toDouble(),
                scores = numbers("scores"), right = numbers("right"),
            )
        },
    )
    val outputs = readNpz(File(folder, "outputs.npz").inputStream())
    words("sizes").forEachIndexed { i, size ->
        val (width, height) = size.split("x").map { it.toInt() }
        val (canvas, frame) = toCanvas(Picture(width, height, File(folder, "$i.rgb").readBytes()), contract)
        File(folder, "$i.canvas").writeBytes(canvas)
        val answer = decode(contract.outputs.map { outputs.getValue(it).floats(i) }, frame, contract)
        val objects = answer.objects.map { o ->
            val points = o.landmarks.flatMap { listOf(it.x, it.y, if (it.visible) 2 else 1) }
            listOf(o.label, o.score, o.x, o.y, o.width, o.height) + points
        }
        val rows = objects + listOf(listOf(answer.label ?: "") + answer.probabilities)
        File(folder, "$i.answer").writeText(rows.joinToString("\n") { it.joinToString("\t") })
    }
    val image = outputs.getValue("image")
    File(folder, "off.txt").writeText(
        "${resizeIsOff(File(folder, "0.canvas").readBytes(), image.bytes(0))} " +
            "${outputs.getValue(contract.outputs[0]).floats(0).let { outputIsOff(it, it) }}",
    )
}
