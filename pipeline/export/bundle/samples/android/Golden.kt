// The golden files against what this app computes: plain Kotlin, nothing of Android.

package pocketlens

import java.io.InputStream
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.util.zip.ZipInputStream
import kotlin.math.abs
import kotlin.math.max

/** An array of a .npz file: `floats` of float32, `bytes` of uint8; the first axis of `shape` counts the pictures. */
class Golden(val shape: List<Int>, private val data: ByteBuffer) {
    private val each = shape.drop(1).fold(1, Int::times)

    fun bytes(picture: Int) = ByteArray(each) { data.get(picture * each + it) }

    fun floats(picture: Int) = FloatArray(each) { data.getFloat((picture * each + it) * 4) }
}

/** The arrays of golden.npz or <target>.npz by name; NumPy's format, version 1, in C order. */
fun readNpz(stream: InputStream): Map<String, Golden> {
    val arrays = mutableMapOf<String, Golden>()
    ZipInputStream(stream).use { zip ->
        generateSequence { zip.nextEntry }.forEach { entry ->
            val all = ByteBuffer.wrap(zip.readBytes()).order(ByteOrder.LITTLE_ENDIAN)
            val header = String(all.array(), 10, all.getShort(8).toInt(), Charsets.US_ASCII)
            require("'fortran_order': False" in header && ("'<f4'" in header || "'|u1'" in header)) {
                "${entry.name}: $header; expected float32 or uint8 in C order"
            }
            val shape = header.substringAfter("'shape': (").substringBefore(")").split(",").mapNotNull {
                it.trim().toIntOrNull()
            }
            all.position(10 + header.length)
            arrays[entry.name.removeSuffix(".npy")] = Golden(shape, all.slice().order(ByteOrder.LITTLE_ENDIAN))
        }
    }
    return arrays
}

const val LEVELS = 2 // of 255: how far a resize may be from the golden input

/** How far the canvas of a golden picture is from the golden input, in levels of 255. */
fun resizeIsOff(found: ByteArray, golden: ByteArray): Int {
    require(found.size == golden.size) { "a canvas of ${found.size} bytes, the golden input has ${golden.size}" }
    return found.indices.maxOf { abs((found[it].toInt() and 255) - (golden[it].toInt() and 255)) }
}

/** How far an output is from the golden answer, as a share of its range: golden.json has the tolerances. */
fun outputIsOff(found: FloatArray, golden: FloatArray): Double {
    require(found.size == golden.size) { "an output of ${found.size} values, the golden answer has ${golden.size}" }
    val range = max(1.0, golden.maxOf { abs(it) }.toDouble())
    return found.indices.maxOf { abs(found[it] - golden[it]).toDouble() } / range
}
