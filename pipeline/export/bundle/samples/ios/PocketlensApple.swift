// What both runtimes need: the contract and the golden files from the app's bundle, images as pictures.
// Drag the exported folder into Xcode as a folder reference named `model`. Not compiled by the project's tests.

import CoreGraphics
import Foundation
import ImageIO

/// The files of the exported folder in the app's bundle.
struct ModelFolder {
    var url = Bundle.main.bundleURL.appendingPathComponent("model")

    func file(_ name: String) -> URL { url.appendingPathComponent(name) }

    func contract() throws -> Contract {
        let told = try JSONDecoder().decode(Preprocess.self, from: Data(contentsOf: file("preprocess.json")))
        let labels = try String(contentsOf: file("labels.txt"), encoding: .utf8).split(separator: "\n").map(String.init)
        let d = told.decode
        return Contract(
            kind: d.kind, labels: labels, landmarks: d.landmarks, size: told.input.shape[1], resize: told.resize,
            fill: UInt8(told.fill?.first ?? 0), outputs: told.outputs, preprocess: told.preprocess, score: d.score ?? 0,
            boxes: d.boxes ?? "", strides: d.strides ?? [],
            anchors: d.anchors ?? [], beforeNms: d.before_nms ?? 0, nms: d.nms ?? "", nmsIou: d.nms_iou ?? 0,
            voteIou: d.vote_iou ?? 0, softSigma: d.soft_sigma ?? 0, maxObjects: d.max_objects ?? 0,
            calibration: d.calibration)
    }

    /// What is wrong on this phone, by the golden files; nothing if the list is empty. Call it once in a test.
    func selfTest(_ contract: Contract, target: String, run: ([UInt8]) throws -> [[Float]]) throws -> [String] {
        let note = try JSONDecoder().decode(Note.self, from: Data(contentsOf: file("golden/golden.json")))
        let tolerance = note.tolerances[target]!
        let inputs = try readNpz(file("golden/golden.npz"))["image"]!
        let answers = try readNpz(file("golden/\(target).npz"))
        var wrong: [String] = []
        for (i, name) in note.images.enumerated() {
            let off = try resizeIsOff(toCanvas(toPicture(file("golden/\(name)")), contract).0, inputs.bytes(i))
            if off > levels { wrong.append("golden/\(name): \(off) of 255 off after the resize") }
            for (output, found) in zip(contract.outputs, try run(inputs.bytes(i))) {
                let share = outputIsOff(found, answers[output]!.floats(i))
                if !(share <= tolerance) { wrong.append("picture \(i): output \(output) is \(share) of its range off") }
            }
        }
        return wrong
    }
}

private struct Note: Decodable {
    var images: [String]
    var tolerances: [String: Double]  // by target
}

/// preprocess.json, by the names of its keys.
private struct Preprocess: Decodable {
    struct Input: Decodable { var shape: [Int] }
    struct Decode: Decodable {
        var kind: String
        var landmarks: Int
        var score: Double?
        var boxes: String?
        var strides: [Int]?
        var anchors: [[[Double]]]?
        var before_nms: Int?
        var nms: String?
        var nms_iou: Double?
        var vote_iou: Double?
        var soft_sigma: Double?
        var max_objects: Int?
        var calibration: Calibration?
    }
    var input: Input
    var resize: String
    var fill: [Int]?
    var outputs: [String]
    var preprocess: [Step]
    var decode: Decode
}

func toPicture(_ file: URL) throws -> Picture {
    guard let source = CGImageSourceCreateWithURL(file as CFURL, nil),
        let image = CGImageSourceCreateImageAtIndex(source, 0, nil)
    else { throw PocketlensError(description: "\(file.lastPathComponent): not a picture") }
    return try toPicture(image)
}

/// The image is upright: a camera's picture is turned by its orientation first.
func toPicture(_ image: CGImage) throws -> Picture {
    let (width, height) = (image.width, image.height)
    var rgba = [UInt8](repeating: 0, count: width * height * 4)
    let drawn = rgba.withUnsafeMutableBytes { memory -> Bool in
        guard
            let context = CGContext(
                data: memory.baseAddress, width: width, height: height, bitsPerComponent: 8, bytesPerRow: width * 4,
                space: CGColorSpace(name: CGColorSpace.sRGB)!, bitmapInfo: CGImageAlphaInfo.noneSkipLast.rawValue)
        else { return false }
        context.draw(image, in: CGRect(x: 0, y: 0, width: width, height: height))
        return true
    }
    guard drawn else { throw PocketlensError(description: "no memory for a picture of \(width) x \(height)") }
    var rgb = [UInt8](repeating: 0, count: width * height * 3)
    for i in 0..<width * height {
        for c in 0..<3 { rgb[3 * i + c] = rgba[4 * i + c] }
    }
    return Picture(width: width, height: height, rgb: rgb)
}
