// A picture to the model's input, and the model's outputs to labels and boxes: plain Kotlin, nothing of Android.
// It does what preprocess.json says; PocketlensOnnx.kt and PocketlensExecutorch.kt run the model in between.

package pocketlens

import kotlin.math.abs
import kotlin.math.exp
import kotlin.math.ln
import kotlin.math.max
import kotlin.math.min
import kotlin.math.round

/** What preprocess.json and labels.txt say. `kind` is classify, localize, or the head of a detector. */
class Contract(
    val kind: String,
    val labels: List<String>,
    val landmarks: Int,
    val size: Int, // side of the canvas in pixels
    val resize: String, // stretch, letterbox or crop
    val fill: Int, // grey of letterboxed borders
    val outputs: List<String>, // names, in the order in which the model gives them
    val preprocess: List<Step> = emptyList(), // of the canvas, after the resize
    val score: Double = 0.0,
    val boxes: String = "", // of a detector, how its outputs become boxes: distances, anchors or offsets
    val strides: List<Int> = emptyList(),
    val anchors: List<List<List<Double>>> = emptyList(), // [stride][anchor](width, height) in pixels; not for `boxes` of distances
    val beforeNms: Int = 0,
    val nms: String = "", // hard, soft or vote
    val nmsIou: Double = 0.0,
    val voteIou: Double = 0.0,
    val softSigma: Double = 0.0,
    val maxObjects: Int = 0,
    val calibration: Calibration? = null,
)

/** What a score is worth: by `platt` a line over its log-odds, else straight lines between the knots. */
class Calibration(
    val by: String, // platt or isotonic
    val slope: Double = 0.0,
    val offset: Double = 0.0,
    val scores: List<Double> = emptyList(),
    val right: List<Double> = emptyList(),
)

/** A step of preprocess.json: gray, gaussian (with a `side` of 3 or 5 pixels) or median. */
class Step(val name: String, val side: Int = 0)

/** An RGB picture, upright: 3 bytes a pixel, rows from the top. */
class Picture(val width: Int, val height: Int, val rgb: ByteArray)

/** Where a picture lies on the canvas: canvas = picture * scale + offset, all as shares (0 to 1). */
class Frame(val scaleX: Double, val scaleY: Double, val offsetX: Double, val offsetY: Double)

class Landmark(val x: Double, val y: Double, val visible: Boolean)

/** `x`, `y` are the upper-left corner; all as shares of the picture. Landmarks may lie outside of it. */
class Found(
    val label: String,
    val score: Double,
    val x: Double,
    val y: Double,
    val width: Double,
    val height: Double,
    val landmarks: List<Landmark>,
)

/** Of a classifier the label and the probability of each label; of the others the objects, best first. */
class Answer(val label: String?, val probabilities: List<Double>, val objects: List<Found>)

/** The model's input, uint8 RGB [1, size, size, 3], and where the picture lies on it. */
fun toCanvas(picture: Picture, contract: Contract): Pair<ByteArray, Frame> {
    val (canvas, frame) = resized(picture, contract)
    return contract.preprocess.fold(canvas) { bytes, step -> stepped(bytes, contract.size, step) } to frame
}

private fun resized(picture: Picture, contract: Contract): Pair<ByteArray, Frame> {
    val size = contract.size
    val w = picture.width
    val h = picture.height
    when (contract.resize) {
        "stretch" -> return resample(picture, 0, 0, w, h, size, size) to Frame(1.0, 1.0, 0.0, 0.0)
        "crop" -> {
            val side = min(w, h)
            val left = (w - side) / 2
            val top = (h - side) / 2
            val frame = Frame(w.toDouble() / side, h.toDouble() / side, -left.toDouble() / side, -top.toDouble() / side)
            return resample(picture, left, top, side, side, size, size) to frame
        }
        "letterbox" -> {
            val ratio = size.toDouble() / max(w, h)
            val innerW = max(1, round(w * ratio).toInt()) // halves go to the even number, as in the training
            val innerH = max(1, round(h * ratio).toInt())
            val left = (size - innerW) / 2
            val top = (size - innerH) / 2
            val inner = resample(picture, 0, 0, w, h, innerW, innerH)
            val canvas = ByteArray(size * size * 3) { contract.fill.toByte() }
            for (y in 0 until innerH) {
                inner.copyInto(canvas, ((top + y) * size + left) * 3, y * innerW * 3, (y + 1) * innerW * 3)
            }
            val side = size.toDouble()
            return canvas to Frame(innerW / side, innerH / side, left / side, top / side)
        }
        else -> throw IllegalArgumentException("resize rule ${contract.resize}: expected stretch, letterbox or crop")
    }
}

private val LUMA = longArrayOf(19595, 38470, 7471) // of red, green and blue, in 65536ths
private val BINOMIAL = mapOf(3 to longArrayOf(1, 2, 1), 5 to longArrayOf(1, 4, 6, 4, 1)) // by a kernel's side

/** The RGB bytes of a canvas of `size` pixels a side after a step; beyond the canvas the pixels of its edge are repeated. */
private fun stepped(bytes: ByteArray, size: Int, step: Step): ByteArray = when (step.name) {
    "gray" -> ByteArray(bytes.size) { at ->
        val pixel = at / 3 * 3
        ((LUMA.indices.sumOf { LUMA[it] * byteAt(bytes, pixel + it) } + 32768) shr 16).toByte()
    }
    "gaussian" -> {
        val weights = BINOMIAL[step.side] ?: throw IllegalArgumentException("gaussian of side ${step.side}: expected 3 or 5")
        val total = weights.sum() * weights.sum()
        around(bytes, size, step.side / 2) { square ->
            val sum = square.indices.sumOf { weights[it / step.side] * weights[it % step.side] * square[it] }
            (sum + total / 2) / total
        }
    }
    "median" -> around(bytes, size, 1) { square -> square.also { it.sort() }[4] }
    else -> throw IllegalArgumentException("step ${step.name}: this sample knows gray, gaussian and median")
}

/** Each byte of a canvas from the square of bytes around it, row by row, that reaches `reach` pixels to each side. */
private fun around(bytes: ByteArray, size: Int, reach: Int, made: (LongArray) -> Long): ByteArray {
    val side = 2 * reach + 1
    val square = LongArray(side * side)
    return ByteArray(bytes.size) { at ->
        val row = at / 3 / size
        val column = at / 3 % size
        for (i in square.indices) {
            val y = (row + i / side - reach).coerceIn(0, size - 1)
            val x = (column + i % side - reach).coerceIn(0, size - 1)
            square[i] = byteAt(bytes, (y * size + x) * 3 + at % 3)
        }
        made(square).toByte()
    }
}

/** For each target pixel the first source pixel it is made of, and the weights from there on, in 22-bit fractions. */
private class Taps(val first: IntArray, val weights: Array<LongArray>)

private fun taps(from: Int, length: Int, whole: Int, target: Int): Taps {
    val scale = length.toDouble() / target
    val reach = max(scale, 1.0) // a triangle as wide as a target pixel: it averages where it shrinks
    val first = IntArray(target)
    val weights = Array(target) { i ->
        val centre = from + (i + 0.5) * scale
        val low = max(0, (centre - reach + 0.5).toInt())
        val high = min(whole, (centre + reach + 0.5).toInt())
        first[i] = low
        val raw = DoubleArray(high - low) { max(0.0, 1 - abs((it + low - centre + 0.5) / reach)) }
        val sum = raw.sum()
        LongArray(raw.size) { (0.5 + raw[it] / sum * (1 shl BITS)).toLong() }
    }
    return Taps(first, weights)
}

private const val BITS = 22

/** The part at (left, top) of `width` x `height` at another size, as Pillow's BILINEAR does, to a level of 255. */
private fun resample(p: Picture, left: Int, top: Int, width: Int, height: Int, toWidth: Int, toHeight: Int): ByteArray {
    val across = taps(left, width, p.width, toWidth)
    val down = taps(top, height, p.height, toHeight)
    val narrow = ByteArray(p.height * toWidth * 3)
    for (y in 0 until p.height) for (x in 0 until toWidth) for (c in 0..2) {
        var sum = 1L shl (BITS - 1)
        val weights = across.weights[x]
        for (i in weights.indices) sum += weights[i] * byteAt(p.rgb, (y * p.width + across.first[x] + i) * 3 + c)
        narrow[(y * toWidth + x) * 3 + c] = (sum shr BITS).coerceIn(0, 255).toByte()
    }
    val small = ByteArray(toHeight * toWidth * 3)
    for (y in 0 until toHeight) for (x in 0 until toWidth) for (c in 0..2) {
        var sum = 1L shl (BITS - 1)
        val weights = down.weights[y]
        for (i in weights.indices) sum += weights[i] * byteAt(narrow, ((down.first[y] + i) * toWidth + x) * 3 + c)
        small[(y * toWidth + x) * 3 + c] = (sum shr BITS).coerceIn(0, 255).toByte()
    }
    return small
}

private fun byteAt(bytes: ByteArray, index: Int): Long = (bytes[index].toInt() and 255).toLong()

/** What the model says of one picture. `outputs`: the model's, flat and in its order; `frame`: from `toCanvas`. */
fun decode(outputs: List<FloatArray>, frame: Frame, contract: Contract): Answer {
    val named = contract.outputs.zip(outputs).toMap()
    return when (contract.kind) {
        "classify" -> {
            val probabilities = softmax(named.getValue("logits"))
            val best = probabilities.indices.maxByOrNull { probabilities[it] } ?: 0
            Answer(contract.labels[best], shared(probabilities, best, contract.calibration), emptyList())
        }
        "localize" -> Answer(null, emptyList(), oneObject(named, contract).map { toPicture(it, frame, contract) })
        else -> Answer(null, emptyList(), objects(named, contract).map { toPicture(it, frame, contract) })
    }
}

/** What a score is worth; the score itself where the contract has no calibration. */
private fun worth(score: Double, fit: Calibration?): Double {
    if (fit == null) return score
    if (fit.by == "platt") {
        val near = score.coerceIn(1e-6, 1 - 1e-6)
        return 1 / (1 + exp(-(fit.slope * ln(near / (1 - near)) + fit.offset)))
    }
    val above = fit.scores.indexOfFirst { it > score }
    if (above == 0) return fit.right.first()
    if (above < 0) return fit.right.last()
    val share = (score - fit.scores[above - 1]) / (fit.scores[above] - fit.scores[above - 1])
    return fit.right[above - 1] + share * (fit.right[above] - fit.right[above - 1])
}

/** The `best` label gets what its probability is worth; the others share the rest as they did, each up to that. */
private fun shared(probabilities: List<Double>, best: Int, fit: Calibration?): List<Double> {
    if (fit == null) return probabilities
    val sure = worth(probabilities[best], fit)
    val others = probabilities.sum() - probabilities[best]
    return probabilities.mapIndexed { i, own ->
        val part = if (others > 0) own / others else 1.0 / (probabilities.size - 1)
        if (i == best) sure else min(sure, (1 - sure) * part)
    }
}

private fun oneObject(named: Map<String, FloatArray>, contract: Contract): List<Found> {
    val presence = sigmoid(named.getValue("presence")[0])
    if (presence < contract.score) return emptyList()
    val box = named.getValue("box").map { it.toDouble() }
    val classes = named.getValue("classes")
    val label = classes.indices.maxByOrNull { classes[it] } ?: 0
    val points = named["landmarks"] ?: FloatArray(0)
    val landmarks = List(contract.landmarks) { Landmark(points[2 * it].toDouble(), points[2 * it + 1].toDouble(), true) }
    return listOf(Found(contract.labels[label], presence, box[0], box[1], box[2], box[3], landmarks))
}

private val OFFSET_WEIGHTS = doubleArrayOf(10.0, 10.0, 5.0, 5.0) // of SSD's x, y, width, height
private val MOST_OFFSET = ln(1000.0 / 16)

/** A box (left, top, right, bottom) in pixels of the canvas; `points` has x, y, visibility of each landmark. */
private class Box(val score: Double, val label: Int, val sides: DoubleArray, val points: DoubleArray) {
    val area get() = max(0.0, sides[2] - sides[0]) * max(0.0, sides[3] - sides[1])

    fun shared(o: Box): Double {
        val w = min(sides[2], o.sides[2]) - max(sides[0], o.sides[0])
        val h = min(sides[3], o.sides[3]) - max(sides[1], o.sides[1])
        return max(0.0, w) * max(0.0, h)
    }
}

private fun objects(named: Map<String, FloatArray>, c: Contract): List<Found> {
    val all = c.strides.indices.flatMap {
        when (c.boxes) {
            "distances" -> fromDistances(named, it, c)
            "anchors" -> fromAnchors(named, it, c)
            "offsets" -> fromOffsets(named, it, c)
            else -> error("boxes ${c.boxes}; expected distances, anchors or offsets")
        }
    }
    val boxes = all.sortedByDescending { it.score }.take(c.beforeNms) // stable: equal scores keep their order
    val kept = if (c.nms == "soft") softNms(boxes, c) else hardNms(boxes, c)
    val shown = kept.take(c.maxObjects).map { if (c.nms == "vote") voted(it, boxes, c) else it }
    return shown.map { box ->
        val (x0, y0, x1, y1) = box.sides.map { it / c.size }
        val landmarks = List(c.landmarks) {
            Landmark(box.points[3 * it] / c.size, box.points[3 * it + 1] / c.size, box.points[3 * it + 2] > 0)
        }
        Found(c.labels[box.label], box.score, x0, y0, x1 - x0, y1 - y0, landmarks)
    }
}

private fun fromDistances(named: Map<String, FloatArray>, level: Int, c: Contract): List<Box> {
    val stride = c.strides[level]
    val side = c.size / stride
    val cells = side * side
    val scores = named.getValue("scores_$stride")
    val boxes = named.getValue("boxes_$stride")
    val landmarks = named["landmarks_$stride"] ?: FloatArray(0)
    return scores.indices.mapNotNull { i ->
        val score = sigmoid(scores[i])
        if (score < c.score) return@mapNotNull null
        val cell = i % cells
        val x = (cell % side + 0.5) * stride
        val y = (cell / side + 0.5) * stride
        fun reach(edge: Int) = boxes[edge * cells + cell].toDouble() * stride
        val sides = doubleArrayOf(x - reach(0), y - reach(1), x + reach(2), y + reach(3))
        val points = DoubleArray(3 * c.landmarks) {
            val value = landmarks[it * cells + cell].toDouble()
            if (it % 3 == 0) x + value * stride else if (it % 3 == 1) y + value * stride else value
        }
        Box(score, i / cells, sides, points)
    }
}

private fun fromAnchors(named: Map<String, FloatArray>, level: Int, c: Contract): List<Box> {
    val stride = c.strides[level]
    val side = c.size / stride
    val cells = side * side
    val labels = c.labels.size
    val scores = named.getValue("scores_$stride")
    val boxes = named.getValue("boxes_$stride")
    val sure = named.getValue("objectness_$stride")
    val landmarks = named["landmarks_$stride"] ?: FloatArray(0)
    return scores.indices.mapNotNull { i ->
        val cell = i % cells
        val anchor = i / cells / labels
        val score = sigmoid(scores[i]) * sigmoid(sure[anchor * cells + cell])
        if (score < c.score) return@mapNotNull null
        val (width, height) = c.anchors[level][anchor]
        fun raw(k: Int) = sigmoid(boxes[(anchor * 4 + k) * cells + cell]) * 2
        val x = (raw(0) - 0.5 + cell % side) * stride
        val y = (raw(1) - 0.5 + cell / side) * stride
        val halfW = raw(2) * raw(2) * width / 2
        val halfH = raw(3) * raw(3) * height / 2
        val points = bySides(landmarks, level, anchor, cell, c)
        Box(score, i / cells % labels, doubleArrayOf(x - halfW, y - halfH, x + halfW, y + halfH), points)
    }
}

/** Of SSD's default boxes: a score is the label's share of a softmax with the background. */
private fun fromOffsets(named: Map<String, FloatArray>, level: Int, c: Contract): List<Box> {
    val stride = c.strides[level]
    val side = c.size / stride
    val cells = side * side
    val labels = c.labels.size
    val scores = named.getValue("scores_$stride")
    val boxes = named.getValue("boxes_$stride")
    val landmarks = named["landmarks_$stride"] ?: FloatArray(0)
    val shares = sharesOf(scores, named.getValue("background_$stride"), labels, cells)
    return scores.indices.mapNotNull { i ->
        val score = shares[i]
        if (score < c.score) return@mapNotNull null
        val cell = i % cells
        val anchor = i / cells / labels
        val (width, height) = c.anchors[level][anchor]
        fun offset(k: Int) = boxes[(anchor * 4 + k) * cells + cell] / OFFSET_WEIGHTS[k]
        val x = (cell % side + 0.5) * stride + offset(0) * width
        val y = (cell / side + 0.5) * stride + offset(1) * height
        val halfW = exp(min(offset(2), MOST_OFFSET)) * width / 2
        val halfH = exp(min(offset(3), MOST_OFFSET)) * height / 2
        val points = bySides(landmarks, level, anchor, cell, c)
        Box(score, i / cells % labels, doubleArrayOf(x - halfW, y - halfH, x + halfW, y + halfH), points)
    }
}

/** The softmax over the background and the labels of each anchor and cell: what is the labels', laid out as `scores`. */
private fun sharesOf(scores: FloatArray, background: FloatArray, labels: Int, cells: Int): DoubleArray {
    val shares = DoubleArray(scores.size)
    background.indices.forEach { i ->
        val first = i / cells * labels * cells + i % cells
        val all = softmax(FloatArray(labels + 1) { if (it == 0) background[i] else scores[first + (it - 1) * cells] })
        for (label in 0 until labels) shares[first + label * cells] = all[label + 1]
    }
    return shares
}

/** x, y, visibility of the landmarks of one anchor of a cell; they are in its sides from the cell's centre. */
private fun bySides(landmarks: FloatArray, level: Int, anchor: Int, cell: Int, c: Contract): DoubleArray {
    val stride = c.strides[level]
    val side = c.size / stride
    val (width, height) = c.anchors[level][anchor]
    return DoubleArray(3 * c.landmarks) {
        val value = landmarks[(anchor * 3 * c.landmarks + it) * side * side + cell].toDouble()
        when (it % 3) {
            0 -> (cell % side + 0.5) * stride + value * width
            1 -> (cell / side + 0.5) * stride + value * height
            else -> value
        }
    }
}

private fun hardNms(boxes: List<Box>, c: Contract): List<Box> {
    val kept = mutableListOf<Box>()
    for (box in boxes) {
        val hidden = kept.any {
            val shared = it.shared(box)
            it.label == box.label && shared > c.nmsIou * (it.area + box.area - shared)
        }
        if (!hidden) kept += box
    }
    return kept
}

private fun softNms(boxes: List<Box>, c: Contract): List<Box> {
    val left = boxes.toMutableList()
    val kept = mutableListOf<Box>()
    while (left.isNotEmpty()) {
        val best = left.maxByOrNull { it.score } ?: break // the first of equal ones
        if (best.score < c.score) break
        left.remove(best)
        kept += best
        for (i in left.indices) {
            val o = left[i]
            val shared = best.shared(o)
            val union = best.area + o.area - shared
            if (o.label != best.label || union <= 0) continue
            val iou = shared / union
            left[i] = Box(o.score * exp(-iou * iou / c.softSigma), o.label, o.sides, o.points)
        }
    }
    return kept
}

/** The mean, weighted by score, of all boxes of its label that lie on it. */
private fun voted(box: Box, boxes: List<Box>, c: Contract): Box {
    val near = boxes.filter {
        val shared = box.shared(it)
        it === box || (it.label == box.label && shared > 0 && shared >= c.voteIou * (box.area + it.area - shared))
    }
    val weights = near.map { max(it.score, 1e-9) }
    val sum = weights.sum()
    fun mean(value: (Box) -> Double) = near.indices.sumOf { value(near[it]) * weights[it] } / sum
    val sides = DoubleArray(4) { k -> mean { it.sides[k] } }
    return Box(box.score, box.label, sides, DoubleArray(box.points.size) { k -> mean { it.points[k] } })
}

/** From shares of the canvas to shares of the picture, to which the box is clipped; the score is calibrated. */
private fun toPicture(o: Found, frame: Frame, contract: Contract): Found {
    fun x(value: Double) = (value - frame.offsetX) / frame.scaleX
    fun y(value: Double) = (value - frame.offsetY) / frame.scaleY
    val x0 = x(o.x).coerceIn(0.0, 1.0)
    val y0 = y(o.y).coerceIn(0.0, 1.0)
    val x1 = x(o.x + o.width).coerceIn(0.0, 1.0)
    val y1 = y(o.y + o.height).coerceIn(0.0, 1.0)
    val landmarks = o.landmarks.map { Landmark(x(it.x), y(it.y), it.visible) }
    return Found(o.label, worth(o.score, contract.calibration), x0, y0, x1 - x0, y1 - y0, landmarks)
}

private fun sigmoid(x: Float): Double = 1 / (1 + exp(-x.toDouble()))

private fun softmax(x: FloatArray): List<Double> {
    val largest = x.maxOrNull() ?: 0f
    val e = x.map { exp((it - largest).toDouble()) }
    val sum = e.sum()
    return e.map { it / sum }
}
