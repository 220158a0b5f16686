// The golden files against what this app computes: plain Swift. Not compiled by the project's tests.

import Foundation

/// An array of a .npz file: `floats` of float32, `bytes` of uint8; the first axis of `shape` counts the pictures.
struct Golden {
    var shape: [Int]
    var data: Data  // starts at index 0

    private var length: Int { shape.dropFirst().reduce(1, *) }

    func bytes(_ picture: Int) -> [UInt8] { [UInt8](data[picture * length..<(picture + 1) * length]) }

    func floats(_ picture: Int) -> [Float] {
        (0..<length).map { Float(bitPattern: UInt32(data.little((picture * length + $0) * 4, 4))) }
    }
}

extension Data {
    /// `count` bytes from `start` as a number, the lowest byte first; the data start at index 0.
    fileprivate func little(_ start: Int, _ count: Int) -> Int {
        (0..<count).reversed().reduce(0) { $0 << 8 | Int(self[start + $1]) }
    }
}

/// The arrays of golden.npz or <target>.npz by name: a zip without compression of NumPy's .npy files, version 1.
func readNpz(_ url: URL) throws -> [String: Golden] {
    let zip = try Data(contentsOf: url)
    let end = zip.count - 22
    guard end >= 0, zip.little(end, 4) == 0x0605_4b50 else {
        throw PocketlensError(description: "\(url.lastPathComponent): not a whole .npz file")
    }
    var arrays: [String: Golden] = [:]
    var entry = zip.little(end + 16, 4)  // of the central directory
    for _ in 0..<zip.little(end + 10, 2) {
        let nameLength = zip.little(entry + 28, 2)
        let name = String(decoding: zip[entry + 46..<entry + 46 + nameLength], as: UTF8.self)
        guard zip.little(entry, 4) == 0x0201_4b50, zip.little(entry + 10, 2) == 0 else {
            throw PocketlensError(description: "\(url.lastPathComponent): \(name) is compressed; expected np.savez")
        }
        let local = zip.little(entry + 42, 4)
        let start = local + 30 + zip.little(local + 26, 2) + zip.little(local + 28, 2)
        let npy = Data(zip[start..<start + zip.little(entry + 24, 4)])
        arrays[name.replacingOccurrences(of: ".npy", with: "")] = try readNpy(npy, name)
        entry += 46 + nameLength + zip.little(entry + 30, 2) + zip.little(entry + 32, 2)
    }
    return arrays
}

private func readNpy(_ npy: Data, _ name: String) throws -> Golden {
    let start = 10 + npy.little(8, 2)
    let header = String(decoding: npy[10..<start], as: UTF8.self)
    let known = header.contains("'<f4'") || header.contains("'|u1'")
    guard known, header.contains("'fortran_order': False"), let open = header.range(of: "'shape': (") else {
        throw PocketlensError(description: "\(name): \(header); expected float32 or uint8 in C order")
    }
    let inside = header[open.upperBound...].prefix { $0 != ")" }
    let shape = inside.split(separator: ",").compactMap { Int($0.trimmingCharacters(in: .whitespaces)) }
    return Golden(shape: shape, data: Data(npy[start...]))
}

let levels = 2  // of 255: how far a resize may be from the golden input

/// How far the canvas of a golden picture is from the golden input, in levels of 255.
func resizeIsOff(_ found: [UInt8], _ golden: [UInt8]) -> Int {
    zip(found, golden).map { abs(Int($0) - Int($1)) }.max() ?? 0
}

/// How far an output is from the golden answer, as a share of its range: golden.json has the tolerances.
func outputIsOff(_ found: [Float], _ golden: [Float]) -> Double {
    guard found.count == golden.count else { return .infinity }
    let range = Double(max(1, golden.map { abs($0) }.max() ?? 0))
    return zip(found, golden).map { abs(Double($0) - Double($1)) / range }.max() ?? 0
}
