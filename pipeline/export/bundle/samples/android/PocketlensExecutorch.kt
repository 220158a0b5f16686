// The model in ExecuTorch. In build.gradle: implementation("org.pytorch:executorch-android:<version>"), of a version
// no older than `runtimes` of preprocess.json says.
// Copy the bundle's folder to src/main/assets/model (without the samples).

package pocketlens

import android.content.Context
import android.graphics.Bitmap
import java.io.File
import org.pytorch.executorch.EValue
import org.pytorch.executorch.Module
import org.pytorch.executorch.Tensor

class PocketlensExecutorch(
    private val context: Context,
    file: String = "model.int8.pte",
    private val target: String = "executorch_int8",
) {
    val contract = readContract(text("preprocess.json"), text("labels.txt"))
    private val module: Module = Module.load(onDisk(file).absolutePath)

    /** The bitmap is upright: turn a camera's picture by its EXIF orientation first. */
    fun ask(bitmap: Bitmap): Answer {
        val (canvas, frame) = toCanvas(toPicture(bitmap), contract)
        return decode(run(canvas), frame, contract)
    }

    private fun run(canvas: ByteArray): List<FloatArray> {
        val side = contract.size.toLong()
        val input = Tensor.fromBlobUnsigned(canvas, longArrayOf(1, side, side, 3))
        return module.forward(EValue.from(input)).map { it.toTensor().dataAsFloatArray }
    }

    /** What is wrong on this phone, by the golden files; nothing if the list is empty. Call it once in a test. */
    fun selfTest(): List<String> = selfTest(context, contract, target, ::run)

    /** ExecuTorch reads files, not assets. */
    private fun onDisk(name: String) = File(context.filesDir, name).also { copy ->
        context.assets.open("model/$name").use { from -> copy.outputStream().use { from.copyTo(it) } }
    }

    private fun text(name: String) = context.assets.open("model/$name").bufferedReader().readText()
}
