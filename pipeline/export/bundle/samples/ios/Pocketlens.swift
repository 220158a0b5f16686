// A picture to the model's input, and the model's outputs to labels and boxes: plain Swift, nothing of Apple's.
// It does what preprocess.json says; PocketlensOnnx.swift and PocketlensExecutorch.swift run the model in between.
// Line by line it is samples/android/Pocketlens.kt, which the project's tests compile and run; this was not compiled.

import Foundation

/// What preprocess.json and labels.txt say. `kind` is classify, localize, or the head of a detector.
struct Contract {
    var kind: String
    var labels: [String]
    var landmarks: Int
    var size: Int  // side of the canvas in pixels
    var resize: String  // stretch, letterbox or crop
    var fill: UInt8  // grey of letterboxed borders
    var outputs: [String]  // names, in the order in which the model gives them
    var preprocess: [Step] = []  // of the canvas, after the resize
    var score = 0.0
    var boxes = ""  // of a detector, how its outputs become boxes: distances, anchors or offsets
    var strides: [Int] = []
    var anchors: [[[Double]]] = []  // [stride][anchor](width, height) in pixels; not for `boxes` of distances
    var beforeNms = 0
    var nms = ""  // hard, soft or vote
    var nmsIou = 0.0
    var voteIou = 0.0
    var softSigma = 0.0
    var maxObjects = 0
    var calibration: Calibration?
}

/// What a score is worth: by `platt` a line over its log-odds, else straight lines between the knots.
struct Calibration: Decodable {
    var by: String  // platt or isotonic
    var slope: Double?
    var offset: Double?
    var scores: [Double]?
    var right: [Double]?
}

/// A step of preprocess.json: gray, gaussian (with a `side` of 3 or 5 pixels) or median.
struct Step: Decodable {
    var step: String
    var side: Int?
}

/// An RGB picture, upright: 3 bytes a pixel, rows from the top.
struct Picture {
    var width: Int
    var height: Int
    var rgb: [UInt8]
}

/// Where a picture lies on the canvas: canvas = picture * scale + offset, all as shares (0 to 1).
struct Frame {
    var scaleX = 1.0
    var scaleY = 1.0
    var offsetX = 0.0
    var offsetY = 0.0
}

struct Landmark {
    var x: Double
    var y: Double
    var visible: Bool
}

/// `x`, `y` are the upper-left corner; all as shares of the picture. Landmarks may lie outside of it.
struct Found {
    var label: String
    var score: Double
    var x: Double
    var y: Double
    var width: Double
    var height: Double
    var landmarks: [Landmark]
}

/// Of a classifier the label and the probability of each label; of the others the objects, best first.
struct Answer {
    var label: String?
    var probabilities: [Double] = []
    var objects: [Found] = []
}

struct PocketlensError: Error, CustomStringConvertible {
    var description: String
}

/// The model's input, uint8 RGB [1, size, size, 3], and where the picture lies on it.
func toCanvas(_ picture: Picture, _ contract: Contract) throws -> ([UInt8], Frame) {
    let (canvas, frame) = try resized(picture, contract)
    return (try contract.preprocess.reduce(canvas) { try stepped($0, contract.size, $1) }, frame)
}

private func resized(_ picture: Picture, _ contract: Contract) throws -> ([UInt8], Frame) {
    let size = contract.size
    let (w, h) = (picture.width, picture.height)
    switch contract.resize {
    case "stretch":
        return (resample(picture, left: 0, top: 0, width: w, height: h, toWidth: size, toHeight: size), Frame())
    case "crop":
        let side = min(w, h)
        let (left, top) = ((w - side) / 2, (h - side) / 2)
        let frame = Frame(
            scaleX: Double(w) / Double(side), scaleY: Double(h) / Double(side),
            offsetX: -Double(left) / Double(side), offsetY: -Double(top) / Double(side))
        return (resample(picture, left: left, top: top, width: side, height: side, toWidth: size, toHeight: size), frame)
    case "letterbox":
        let ratio = Double(size) / Double(max(w, h))
        // halves go to the even number, as in the training
        let innerW = max(1, Int((Double(w) * ratio).rounded(.toNearestOrEven)))
        let innerH = max(1, Int((Double(h) * ratio).rounded(.toNearestOrEven)))
        let (left, top) = ((size - innerW) / 2, (size - innerH) / 2)
        let inner = resample(picture, left: 0, top: 0, width: w, height: h, toWidth: innerW, toHeight: innerH)
        var canvas = [UInt8](repeating: contract.fill, count: size * size * 3)
        for y in 0..<innerH {
            let start = ((top + y) * size + left) * 3
            canvas.replaceSubrange(start..<start + innerW * 3, with: inner[y * innerW * 3..<(y + 1) * innerW * 3])
        }
        let side = Double(size)
        let frame = Frame(
            scaleX: Double(innerW) / side, scaleY: Double(innerH) / side,
            offsetX: Double(left) / side, offsetY: Double(top) / side)
        return (canvas, frame)
    default:
        throw PocketlensError(description: "resize rule \(contract.resize): expected stretch, letterbox or crop")
    }
}

private let luma = [19595, 38470, 7471]  // of red, green and blue, in 65536ths
private let binomial = [3: [1, 2, 1], 5: [1, 4, 6, 4, 1]]  // by a kernel's side

/// The RGB bytes of a canvas of `size` pixels a side after a step; beyond the canvas the pixels of its edge are repeated.
private func stepped(_ bytes: [UInt8], _ size: Int, _ step: Step) throws -> [UInt8] {
    switch step.step {
    case "gray":
        return bytes.indices.map { at in
            let pixel = at / 3 * 3
            let sum = luma[0] * Int(bytes[pixel]) + luma[1] * Int(bytes[pixel + 1]) + luma[2] * Int(bytes[pixel + 2])
            return UInt8((sum + 32768) >> 16)
        }
    case "gaussian":
        guard let weights = binomial[step.side ?? 0] else {
            throw PocketlensError(description: "gaussian of side \(step.side ?? 0): expected 3 or 5")
        }
        let side = weights.count
        let total = weights.reduce(0, +) * weights.reduce(0, +)
        return around(bytes, size, side / 2) { square in
            var sum = total / 2
            for i in square.indices { sum += weights[i / side] * weights[i % side] * square[i] }
            return sum / total
        }
    case "median":
        return around(bytes, size, 1) { $0.sorted()[4] }
    default:
        throw PocketlensError(description: "step \(step.step): this sample knows gray, gaussian and median")
    }
}

/// Each byte of a canvas from the square of bytes around it, row by row, that reaches `reach` pixels to each side.
private func around(_ bytes: [UInt8], _ size: Int, _ reach: Int, _ made: ([Int]) -> Int) -> [UInt8] {
    let side = 2 * reach + 1
    var square = [Int](repeating: 0, count: side * side)
    return bytes.indices.map { at in
        let (row, column) = (at / 3 / size, at / 3 % size)
        for i in square.indices {
            let y = min(max(row + i / side - reach, 0), size - 1)
            let x = min(max(column + i % side - reach, 0), size - 1)
            square[i] = Int(bytes[(y * size + x) * 3 + at % 3])
        }
        return UInt8(made(square))
    }
}

private let bits = 22

/// For each target pixel the first source pixel it is made of, and the weights from there on, in 22-bit fractions.
private func taps(from: Int, length: Int, whole: Int, target: Int) -> [(first: Int, weights: [Int])] {
    let scale = Double(length) / Double(target)
    let reach = max(scale, 1.0)  // a triangle as wide as a target pixel: it averages where it shrinks
    return (0..<target).map { i in
        let centre = Double(from) + (Double(i) + 0.5) * scale
        let low = max(0, Int(centre - reach + 0.5))
        let high = min(whole, Int(centre + reach + 0.5))
        let raw = (low..<high).map { max(0.0, 1 - abs((Double($0) - centre + 0.5) / reach)) }
        let sum = raw.reduce(0, +)
        return (low, raw.map { Int(0.5 + $0 / sum * Double(1 << bits)) })
    }
}

/// The part at (left, top) of `width` x `height` at another size, as Pillow's BILINEAR does, to a level of 255.
private func resample(
    _ p: Picture, left: Int, top: Int, width: Int, height: Int, toWidth: Int, toHeight: Int
) -> [UInt8] {
    let across = taps(from: left, length: width, whole: p.width, target: toWidth)
    let down = taps(from: top, length: height, whole: p.height, target: toHeight)
    var narrow = [UInt8](repeating: 0, count: p.height * toWidth * 3)
    for y in 0..<p.height {
        for x in 0..<toWidth {
            for c in 0..<3 {
                var sum = 1 << (bits - 1)
                for (i, weight) in across[x].weights.enumerated() {
                    sum += weight * Int(p.rgb[(y * p.width + across[x].first + i) * 3 + c])
                }
                narrow[(y * toWidth + x) * 3 + c] = UInt8(min(255, sum >> bits))
            }
        }
    }
    var small = [UInt8](repeating: 0, count: toHeight * toWidth * 3)
    for y in 0..<toHeight {
        for x in 0..<toWidth {
            for c in 0..<3 {
                var sum = 1 << (bits - 1)
                for (i, weight) in down[y].weights.enumerated() {
                    sum += weight * Int(narrow[((down[y].first + i) * toWidth + x) * 3 + c])
                }
                small[(y * toWidth + x) * 3 + c] = UInt8(min(255, sum >> bits))
            }
        }
    }
    return small
}

/// What the model says of one picture. `outputs`: the model's, flat and in its order; `frame`: from `toCanvas`.
func decode(_ outputs: [[Float]], _ frame: Frame, _ contract: Contract) -> Answer {
    let named = Dictionary(uniqueKeysWithValues: zip(contract.outputs, outputs))
    switch contract.kind {
    case "classify":
        let probabilities = softmax(named["logits"]!)
        let best = largest(probabilities)
        return Answer(
            label: contract.labels[best], probabilities: shared(probabilities, best: best, contract.calibration))
    case "localize":
        return Answer(objects: oneObject(named, contract).map { toPicture($0, frame, contract) })
    default:
        return Answer(objects: objects(named, contract).map { toPicture($0, frame, contract) })
    }
}

/// What a score is worth; the score itself where the contract has no calibration.
private func worth(_ score: Double, _ fit: Calibration?) -> Double {
    guard let fit = fit else { return score }
    if fit.by == "platt" {
        let near = min(max(score, 1e-6), 1 - 1e-6)
        return 1 / (1 + exp(-(fit.slope! * log(near / (1 - near)) + fit.offset!)))
    }
    let (scores, right) = (fit.scores!, fit.right!)
    guard let above = scores.firstIndex(where: { $0 > score }) else { return right.last! }
    if above == 0 { return right[0] }
    let share = (score - scores[above - 1]) / (scores[above] - scores[above - 1])
    return right[above - 1] + share * (right[above] - right[above - 1])
}

/// The `best` label gets what its probability is worth; the others share the rest as they did, each up to that.
private func shared(_ probabilities: [Double], best: Int, _ fit: Calibration?) -> [Double] {
    if fit == nil { return probabilities }
    let sure = worth(probabilities[best], fit)
    let others = probabilities.reduce(0, +) - probabilities[best]
    return probabilities.enumerated().map { i, own in
        if i == best { return sure }
        return min(sure, (1 - sure) * (others > 0 ? own / others : 1 / Double(probabilities.count - 1)))
    }
}

private func oneObject(_ named: [String: [Float]], _ contract: Contract) -> [Found] {
    let presence = sigmoid(named["presence"]![0])
    if presence < contract.score { return [] }
    let box = named["box"]!.map(Double.init)
    let label = contract.labels[largest(named["classes"]!.map(Double.init))]
    let points = (named["landmarks"] ?? []).map(Double.init)
    let landmarks = (0..<contract.landmarks).map { Landmark(x: points[2 * $0], y: points[2 * $0 + 1], visible: true) }
    return [
        Found(label: label, score: presence, x: box[0], y: box[1], width: box[2], height: box[3], landmarks: landmarks)
    ]
}

private let offsetWeights: [Double] = [10, 10, 5, 5]  // of SSD's x, y, width, height
private let mostOffset = log(1000.0 / 16)

/// A box (left, top, right, bottom) in pixels of the canvas; `points` has x, y, visibility of each landmark.
private struct Box {
    var score: Double
    var label: Int
    var sides: [Double]
    var points: [Double]

    var area: Double { max(0, sides[2] - sides[0]) * max(0, sides[3] - sides[1]) }

    func shared(_ o: Box) -> Double {
        let w = min(sides[2], o.sides[2]) - max(sides[0], o.sides[0])
        let h = min(sides[3], o.sides[3]) - max(sides[1], o.sides[1])
        return max(0, w) * max(0, h)
    }
}

private func objects(_ named: [String: [Float]], _ c: Contract) -> [Found] {
    let all = c.strides.indices.flatMap {
        switch c.boxes {
        case "distances": return fromDistances(named, level: $0, c)
        case "anchors": return fromAnchors(named, level: $0, c)
        case "offsets": return fromOffsets(named, level: $0, c)
        default: fatalError("boxes \(c.boxes); expected distances, anchors or offsets")
        }
    }
    // equal scores keep their order, which Swift's sort does not promise
    let order = all.indices.sorted { (-all[$0].score, $0) < (-all[$1].score, $1) }
    let boxes = order.prefix(c.beforeNms).map { all[$0] }
    let kept = c.nms == "soft" ? softNms(boxes, c) : hardNms(boxes, c)
    let size = Double(c.size)
    return kept.prefix(c.maxObjects).map { one in
        let box = c.nms == "vote" ? voted(one, boxes, c) : one.box
        let sides = box.sides.map { $0 / size }
        let landmarks = (0..<c.landmarks).map {
            Landmark(x: box.points[3 * $0] / size, y: box.points[3 * $0 + 1] / size, visible: box.points[3 * $0 + 2] > 0)
        }
        return Found(
            label: c.labels[box.label], score: box.score, x: sides[0], y: sides[1],
            width: sides[2] - sides[0], height: sides[3] - sides[1], landmarks: landmarks)
    }
}

private func fromDistances(_ named: [String: [Float]], level: Int, _ c: Contract) -> [Box] {
    let stride = c.strides[level]
    let side = c.size / stride
    let cells = side * side
    let scores = named["scores_\(stride)"]!
    let boxes = named["boxes_\(stride)"]!
    let landmarks = named["landmarks_\(stride)"] ?? []
    var found: [Box] = []
    for i in scores.indices {
        let score = sigmoid(scores[i])
        if score < c.score { continue }
        let cell = i % cells
        let x = (Double(cell % side) + 0.5) * Double(stride)
        let y = (Double(cell / side) + 0.5) * Double(stride)
        let reach = (0..<4).map { Double(boxes[$0 * cells + cell]) * Double(stride) }
        let points = (0..<3 * c.landmarks).map { (k: Int) -> Double in
            let value = Double(landmarks[k * cells + cell])
            return k % 3 == 0 ? x + value * Double(stride) : k % 3 == 1 ? y + value * Double(stride) : value
        }
        let sides = [x - reach[0], y - reach[1], x + reach[2], y + reach[3]]
        found.append(Box(score: score, label: i / cells, sides: sides, points: points))
    }
    return found
}

private func fromAnchors(_ named: [String: [Float]], level: Int, _ c: Contract) -> [Box] {
    let stride = c.strides[level]
    let side = c.size / stride
    let cells = side * side
    let scores = named["scores_\(stride)"]!
    let boxes = named["boxes_\(stride)"]!
    let sure = named["objectness_\(stride)"]!
    let landmarks = named["landmarks_\(stride)"] ?? []
    var found: [Box] = []
    for i in scores.indices {
        let cell = i % cells
        let anchor = i / cells / c.labels.count
        let score = sigmoid(scores[i]) * sigmoid(sure[anchor * cells + cell])
        if score < c.score { continue }
        let (width, height) = (c.anchors[level][anchor][0], c.anchors[level][anchor][1])
        let (column, row) = (Double(cell % side), Double(cell / side))
        let raw = (0..<4).map { sigmoid(boxes[(anchor * 4 + $0) * cells + cell]) * 2 }
        let x = (raw[0] - 0.5 + column) * Double(stride)
        let y = (raw[1] - 0.5 + row) * Double(stride)
        let halfW = raw[2] * raw[2] * width / 2
        let halfH = raw[3] * raw[3] * height / 2
        let points = bySides(landmarks, level: level, anchor: anchor, cell: cell, c)
        let sides = [x - halfW, y - halfH, x + halfW, y + halfH]
        found.append(Box(score: score, label: i / cells % c.labels.count, sides: sides, points: points))
    }
    return found
}

/// Of SSD's default boxes: a score is the label's share of a softmax with the background.
private func fromOffsets(_ named: [String: [Float]], level: Int, _ c: Contract) -> [Box] {
    let stride = c.strides[level]
    let side = c.size / stride
    let cells = side * side
    let labels = c.labels.count
    let scores = named["scores_\(stride)"]!
    let boxes = named["boxes_\(stride)"]!
    let landmarks = named["landmarks_\(stride)"] ?? []
    let shares = sharesOf(scores, named["background_\(stride)"]!, labels: labels, cells: cells)
    var found: [Box] = []
    for i in scores.indices {
        let score = shares[i]
        if score < c.score { continue }
        let cell = i % cells
        let anchor = i / cells / labels
        let (width, height) = (c.anchors[level][anchor][0], c.anchors[level][anchor][1])
        let offset = (0..<4).map { Double(boxes[(anchor * 4 + $0) * cells + cell]) / offsetWeights[$0] }
        let x = (Double(cell % side) + 0.5) * Double(stride) + offset[0] * width
        let y = (Double(cell / side) + 0.5) * Double(stride) + offset[1] * height
        let halfW = exp(min(offset[2], mostOffset)) * width / 2
        let halfH = exp(min(offset[3], mostOffset)) * height / 2
        let points = bySides(landmarks, level: level, anchor: anchor, cell: cell, c)
        let sides = [x - halfW, y - halfH, x + halfW, y + halfH]
        found.append(Box(score: score, label: i / cells % labels, sides: sides, points: points))
    }
    return found
}

/// The softmax over the background and the labels of each anchor and cell: what is the labels', laid out as `scores`.
private func sharesOf(_ scores: [Float], _ background: [Float], labels: Int, cells: Int) -> [Double] {
    var shares = [Double](repeating: 0, count: scores.count)
    for i in background.indices {
        let first = i / cells * labels * cells + i % cells
        let all = softmax([background[i]] + (0..<labels).map { scores[first + $0 * cells] })
        for label in 0..<labels { shares[first + label * cells] = all[label + 1] }
    }
    return shares
}

/// x, y, visibility of the landmarks of one anchor of a cell; they are in its sides from the cell's centre.
private func bySides(_ landmarks: [Float], level: Int, anchor: Int, cell: Int, _ c: Contract) -> [Double] {
    let stride = Double(c.strides[level])
    let side = c.size / c.strides[level]
    let (width, height) = (c.anchors[level][anchor][0], c.anchors[level][anchor][1])
    return (0..<3 * c.landmarks).map { (k: Int) -> Double in
        let value = Double(landmarks[(anchor * 3 * c.landmarks + k) * side * side + cell])
        if k % 3 == 0 { return (Double(cell % side) + 0.5) * stride + value * width }
        if k % 3 == 1 { return (Double(cell / side) + 0.5) * stride + value * height }
        return value
    }
}

/// A box that stays, and its index among all, by which voting knows it.
private typealias Kept = (index: Int, box: Box)

private func hardNms(_ boxes: [Box], _ c: Contract) -> [Kept] {
    var kept: [Kept] = []
    for (i, box) in boxes.enumerated() {
        let hidden = kept.contains {
            let shared = $0.box.shared(box)
            return $0.box.label == box.label && shared > c.nmsIou * ($0.box.area + box.area - shared)
        }
        if !hidden { kept.append((i, box)) }
    }
    return kept
}

private func softNms(_ boxes: [Box], _ c: Contract) -> [Kept] {
    var left: [Kept] = boxes.enumerated().map { ($0.offset, $0.element) }
    var kept: [Kept] = []
    while !left.isEmpty {
        let best = left.indices.max { (left[$0].box.score, $1) < (left[$1].box.score, $0) }!  // the first of equal ones
        let taken = left.remove(at: best)
        if taken.box.score < c.score { break }
        kept.append(taken)
        for i in left.indices where left[i].box.label == taken.box.label {
            let shared = taken.box.shared(left[i].box)
            let union = taken.box.area + left[i].box.area - shared
            if union <= 0 { continue }
            let iou = shared / union
            left[i].box.score *= exp(-iou * iou / c.softSigma)
        }
    }
    return kept
}

/// The mean, weighted by score, of all boxes of its label that lie on it.
private func voted(_ kept: Kept, _ boxes: [Box], _ c: Contract) -> Box {
    let near = boxes.indices.filter {
        let shared = kept.box.shared(boxes[$0])
        let most = c.voteIou * (kept.box.area + boxes[$0].area - shared)
        return $0 == kept.index || (boxes[$0].label == kept.box.label && shared > 0 && shared >= most)
    }
    let weights = near.map { max(boxes[$0].score, 1e-9) }
    let sum = weights.reduce(0, +)
    func mean(_ value: (Box) -> Double) -> Double {
        zip(near, weights).map { value(boxes[$0]) * $1 }.reduce(0, +) / sum
    }
    var box = kept.box
    box.sides = (0..<4).map { k in mean { $0.sides[k] } }
    box.points = box.points.indices.map { k in mean { $0.points[k] } }
    return box
}

/// From shares of the canvas to shares of the picture, to which the box is clipped; the score is calibrated.
private func toPicture(_ o: Found, _ frame: Frame, _ contract: Contract) -> Found {
    func x(_ value: Double) -> Double { (value - frame.offsetX) / frame.scaleX }
    func y(_ value: Double) -> Double { (value - frame.offsetY) / frame.scaleY }
    func clip(_ value: Double) -> Double { min(max(value, 0), 1) }
    let (x0, y0) = (clip(x(o.x)), clip(y(o.y)))
    let (x1, y1) = (clip(x(o.x + o.width)), clip(y(o.y + o.height)))
    let landmarks = o.landmarks.map { Landmark(x: x($0.x), y: y($0.y), visible: $0.visible) }
    let score = worth(o.score, contract.calibration)
    return Found(label: o.label, score: score, x: x0, y: y0, width: x1 - x0, height: y1 - y0, landmarks: landmarks)
}

private func largest(_ values: [Double]) -> Int {
    values.indices.max { (values[$0], $1) < (values[$1], $0) }!  // the first of equal ones
}

private func sigmoid(_ x: Float) -> Double { 1 / (1 + exp(-Double(x))) }

private func softmax(_ x: [Float]) -> [Double] {
    let most = x.max() ?? 0
    let e = x.map { exp(Double($0 - most)) }
    let sum = e.reduce(0, +)
    return e.map { $0 / sum }
}
