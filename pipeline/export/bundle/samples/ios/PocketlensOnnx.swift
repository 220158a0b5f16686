// The model in ONNX Runtime: the Swift package of github.com/microsoft/onnxruntime-swift-package-manager,
// no older than `runtimes` of preprocess.json says.
// Not compiled by the project's tests. For a .pte file see PocketlensExecutorch.swift.

import CoreGraphics
import Foundation
import OnnxRuntimeBindings

final class PocketlensOnnx {
    let contract: Contract
    private let folder = ModelFolder()
    private let environment: ORTEnv
    private let session: ORTSession
    private let target: String

    /// `file` is the model's in the folder, its golden answers those of `target`.
    init(file: String = "model.int8.onnx", target: String = "onnx_int8") throws {
        contract = try folder.contract()
        environment = try ORTEnv(loggingLevel: .warning)
        session = try ORTSession(env: environment, modelPath: folder.file(file).path, sessionOptions: nil)
        self.target = target
    }

    func ask(_ image: CGImage) throws -> Answer {
        let (canvas, frame) = try toCanvas(toPicture(image), contract)
        return decode(try run(canvas), frame, contract)
    }

    private func run(_ canvas: [UInt8]) throws -> [[Float]] {
        let side = NSNumber(value: contract.size)
        let data = NSMutableData(bytes: canvas, length: canvas.count)
        let input = try ORTValue(tensorData: data, elementType: .uInt8, shape: [1, side, side, 3])
        let outputs = try session.run(
            withInputs: ["image": input], outputNames: Set(contract.outputs), runOptions: nil)
        return try contract.outputs.map { name in
            guard let value = outputs[name] else { throw PocketlensError(description: "no output \(name)") }
            let bytes = try value.tensorData() as Data
            return bytes.withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
        }
    }

    /// What is wrong on this phone, by the golden files; nothing if the list is empty. Call it once in a test.
    func selfTest() throws -> [String] {
        try folder.selfTest(contract, target: target, run: run)
    }
}
