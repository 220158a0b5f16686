// The model in ExecuTorch: the Swift package of github.com/pytorch/executorch (a branch swiftpm-<version>, no older
// than `runtimes` of preprocess.json says), products executorch, backend_xnnpack and kernels_quantized, linked with
// -all_load. Not compiled by the project's tests.

import CoreGraphics
import ExecuTorch
import Foundation

final class PocketlensExecutorch {
    let contract: Contract
    private let folder = ModelFolder()
    private let module: Module
    private let target: String

    /// `file` is the model's in the folder, its golden answers those of `target`.
    init(file: String = "model.int8.pte", target: String = "executorch_int8") throws {
        contract = try folder.contract()
        module = Module(filePath: folder.file(file).path)
        try module.load("forward")
        self.target = target
    }

    func ask(_ image: CGImage) throws -> Answer {
        let (canvas, frame) = try toCanvas(toPicture(image), contract)
        return decode(try run(canvas), frame, contract)
    }

    private func run(_ canvas: [UInt8]) throws -> [[Float]] {
        let input = Tensor<UInt8>(canvas, shape: [1, contract.size, contract.size, 3])
        let outputs: [Value] = try module.forward([input])
        return try outputs.map { value in
            guard let tensor: Tensor<Float> = value.tensor() else {
                throw PocketlensError(description: "an output that is no tensor of floats")
            }
            return tensor.scalars()
        }
    }

    /// What is wrong on this phone, by the golden files; nothing if the list is empty. Call it once in a test.
    func selfTest() throws -> [String] {
        try folder.selfTest(contract, target: target, run: run)
    }
}
