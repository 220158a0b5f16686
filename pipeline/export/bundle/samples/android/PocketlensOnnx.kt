// The model in ONNX Runtime Mobile. In build.gradle:
// implementation("com.microsoft.onnxruntime:onnxruntime-android:<version>"), no older than `runtimes` of preprocess.json
// says.
// Copy the bundle's folder to src/main/assets/model (without the samples).

package pocketlens

import ai.onnxruntime.OnnxJavaType
import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtEnvironment
import ai.onnxruntime.OrtSession
import android.content.Context
import android.graphics.Bitmap
import java.nio.ByteBuffer

/** `file` is the model's in the assets folder `model`, its golden answers those of `target`. */
class PocketlensOnnx(
    private val context: Context,
    file: String = "model.int8.onnx",
    private val target: String = "onnx_int8",
) : AutoCloseable {
    val contract = readContract(text("preprocess.json"), text("labels.txt"))
    private val environment = OrtEnvironment.getEnvironment()
    private val session: OrtSession = environment.createSession(context.assets.open("model/$file").readBytes())

    /** The bitmap is upright: turn a camera's picture by its EXIF orientation first. */
    fun ask(bitmap: Bitmap): Answer {
        val (canvas, frame) = toCanvas(toPicture(bitmap), contract)
        return decode(run(canvas), frame, contract)
    }

    private fun run(canvas: ByteArray): List<FloatArray> {
        val side = contract.size.toLong()
        val input = ByteBuffer.allocateDirect(canvas.size).apply { put(canvas).rewind() }
        OnnxTensor.createTensor(environment, input, longArrayOf(1, side, side, 3), OnnxJavaType.UINT8).use { tensor ->
            session.run(mapOf("image" to tensor)).use { result ->
                return contract.outputs.map { name ->
                    val values = (result.get(name).get() as OnnxTensor).floatBuffer
                    FloatArray(values.remaining()).also { values.get(it) }
                }
            }
        }
    }

    /** What is wrong on this phone, by the golden files; nothing if the list is empty. Call it once in a test. */
    fun selfTest(): List<String> = selfTest(context, contract, target, ::run)

    override fun close() = session.close()

    private fun text(name: String) = context.assets.open("model/$name").bufferedReader().readText()
}
