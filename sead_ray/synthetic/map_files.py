"""The map of a town in nuScenes' map expansion format, version 1.3, and the semantic prior mask."""

from __future__ import annotations

import hashlib
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from shapely.geometry import Polygon

from sead_ray.synthetic import lines
from sead_ray.synthetic.areas import drivable_area, polygons_of, walkway_area
from sead_ray.synthetic.network import LANE_M, PARKING_M, SIZE_M, STOP_LINE_M, Lane, Town, arm_end

MASK_CELL_M = 0.1  # what the devkit's MapMask assumes
_LAYERS = (
    "polygon",
    "line",
    "node",
    "drivable_area",
    "road_segment",
    "road_block",
    "lane",
    "ped_crossing",
    "walkway",
    "stop_line",
    "carpark_area",
    "road_divider",
    "lane_divider",
    "traffic_light",
    "lane_connector",
)


class _Writer:
    """Collects records and their nodes; tokens count up, so that they are the same in every run."""

    def __init__(self, town: Town) -> None:
        self.town = town
        self.layers: dict[str, list[dict[str, Any]]] = {layer: [] for layer in _LAYERS}

    def token(self, layer: str) -> str:
        name = f"{self.town.location}/{layer}/{len(self.layers[layer])}"
        return hashlib.md5(name.encode(), usedforsecurity=False).hexdigest()

    def add(self, layer: str, **fields: Any) -> str:
        token = self.token(layer)
        self.layers[layer].append({"token": token, **fields})
        return token

    def nodes(self, points: NDArray[np.float64]) -> list[str]:
        return [self.add("node", x=float(x), y=float(y)) for x, y in np.round(points, 4)]

    def polygon(self, exterior: NDArray[np.float64], holes: list[NDArray[np.float64]] | None = None) -> str:
        inner = [{"node_tokens": self.nodes(hole)} for hole in holes or []]
        if len(exterior) > 8:  # straight stretches need no vertices
            exterior = np.array(polygons_of(Polygon(exterior).simplify(0.02))[0].exterior.coords)[:-1]
        return self.add("polygon", exterior_node_tokens=self.nodes(exterior), holes=inner)

    def line(self, points: NDArray[np.float64]) -> tuple[str, list[str]]:
        nodes = self.nodes(points)
        return self.add("line", node_tokens=nodes), nodes


def map_expansion(town: Town) -> dict[str, Any]:
    """The content of `maps/expansion/<location>.json`."""
    writer = _Writer(town)
    area = _areas(writer)
    segments, blocks = _segments(writer, area)
    crossings = _crossings(writer, segments)
    lights = _traffic_lights(writer, blocks)
    _stop_lines(writer, blocks, crossings, lights)
    dividers = _dividers(writer, segments)
    lane_tokens = _lane_records(writer, dividers)
    connector_tokens = [
        writer.add("lane_connector", polygon_token=writer.polygon(_ribbon(item.line, LANE_M / 2)))
        for item in town.connectors
    ]
    paths = dict(zip(lane_tokens, (arcline(lane.line) for lane in town.lanes)))
    paths |= dict(zip(connector_tokens, (arcline(item.line) for item in town.connectors)))
    return {
        "version": "1.3",
        **writer.layers,
        "canvas_edge": [SIZE_M, SIZE_M],
        "connectivity": _connectivity(town, lane_tokens, connector_tokens),
        "arcline_path_3": paths,
    }


def _ribbon(line: NDArray[np.float64], half_m: float) -> NDArray[np.float64]:
    return lines.ribbon(lines.resample(line, 2.0), half_m, -half_m)


def _areas(writer: _Writer) -> str:
    polygons = []
    for polygon in polygons_of(drivable_area(writer.town)):
        polygons.append(_shape(writer, polygon))
    for polygon in polygons_of(walkway_area(writer.town)):
        writer.add("walkway", polygon_token=_shape(writer, polygon))
    return writer.add("drivable_area", polygon_tokens=polygons)


def _shape(writer: _Writer, polygon: Polygon) -> str:
    polygon = polygons_of(polygon.simplify(0.05))[0]
    holes = [np.array(ring.coords)[:-1] for ring in polygon.interiors]
    return writer.polygon(np.array(polygon.exterior.coords)[:-1], holes)


def _segments(writer: _Writer, area: str) -> tuple[list[str], dict[tuple[int, bool], str]]:
    """Road segments (roads, then junctions), and one road block per direction of a road."""
    town = writer.town
    segments = []
    blocks = {}
    for number, road in enumerate(town.roads):
        outline = writer.polygon(_ribbon(road.line, road.half_m))
        segments.append(
            writer.add("road_segment", polygon_token=outline, is_intersection=False, drivable_area_token=area)
        )
        for forward in (True, False):
            left = -road.half_m if forward == town.drives_right else road.half_m
            shape = writer.polygon(lines.ribbon(lines.resample(road.line, 2.0), 0.0, left))
            ends = [_across(writer, road.line, left, index) for index in ((0, -1) if forward else (-1, 0))]
            blocks[number, forward] = writer.add(
                "road_block",
                polygon_token=shape,
                from_edge_line_token=ends[0],
                to_edge_line_token=ends[1],
                road_segment_token=segments[-1],
            )
        if road.parking:
            _carparks(writer, road.line, road.lanes * LANE_M, blocks, number)
    for junction in town.junctions:
        outline = writer.polygon(junction.outline)
        segments.append(
            writer.add("road_segment", polygon_token=outline, is_intersection=True, drivable_area_token=area)
        )
    return segments, blocks


def _across(writer: _Writer, line: NDArray[np.float64], left_m: float, index: int) -> str:
    side = lines.offset(line, left_m)
    return writer.line(np.stack([line[index], side[index]]))[0]


def _carparks(writer: _Writer, line: NDArray[np.float64], inner_m: float, blocks, number: int) -> None:
    piece = lines.resample(lines.cut(line, 8.0, lines.length(line) - 8.0), 2.0)
    for side in (1, -1):
        shape = lines.ribbon(piece, side * inner_m, side * (inner_m + PARKING_M))
        forward = (side < 0) == writer.town.drives_right
        writer.add(
            "carpark_area",
            polygon_token=writer.polygon(shape),
            orientation=float(lines.headings(piece)[0]),
            road_block_token=blocks[number, forward],
        )


def _crossings(writer: _Writer, segments: list[str]) -> list[str]:
    return [
        writer.add("ped_crossing", polygon_token=writer.polygon(item.outline), road_segment_token=segments[item.road])
        for item in writer.town.crosswalks
    ]


def _lamp(color: str, up_m: float) -> dict[str, Any]:
    place = {"tx": 0.0, "ty": 0.0, "tz": up_m, "rx": 0.0, "ry": 0.0, "rz": 0.0}
    return {"color": color, "shape": "CIRCLE", "rel_pos": place, "to_road_block_tokens": []}


def _traffic_lights(writer: _Writer, blocks: dict[tuple[int, bool], str]) -> dict[tuple[int, bool], str]:
    out = {}
    lamps = [_lamp("RED", 0.6), _lamp("YELLOW", 0.0), _lamp("GREEN", -0.6)]
    for junction in writer.town.junctions:
        for road_number, at_end in junction.arms if junction.kind == "signal" else ():
            road = writer.town.roads[road_number]
            point, inward = arm_end(road, at_end)
            right = np.array([inward[1], -inward[0]]) * (1 if writer.town.drives_right else -1)
            pole = point + right * (road.half_m + 0.8) - inward * 0.6
            line, _ = writer.line(np.stack([pole, pole - inward]))
            yaw = float(np.arctan2(-inward[1], -inward[0]))
            out[road_number, at_end] = writer.add(
                "traffic_light",
                line_token=line,
                traffic_light_type="VERTICAL",
                from_road_block_token=blocks[road_number, at_end],
                items=lamps,
                pose={"tx": float(pole[0]), "ty": float(pole[1]), "tz": 3.4, "rx": 0.0, "ry": 0.0, "rz": yaw},
            )
    return out


def _stop_lines(writer: _Writer, blocks, crossings: list[str], lights: dict[tuple[int, bool], str]) -> None:
    town = writer.town
    for lane in town.lanes:
        total = lines.length(lane.line)
        area = writer.polygon(lines.ribbon(lines.cut(lane.line, total - STOP_LINE_M - 1.0, total - 4.2), 1.7, -1.7))
        junction = town.junctions[lane.junctions[1]]
        if junction.kind == "signal":
            _stop_line(writer, area, "TRAFFIC_LIGHT", [], [lights[lane.arm]], blocks[lane.arm])
        elif junction.kind == "roundabout" or not junction.main[junction.arms.index(lane.arm)]:
            _stop_line(writer, area, "YIELD", [], [], blocks[lane.arm])
    for crossing, token in zip(town.crosswalks, crossings):
        if crossing.arm is None:
            line = lines.cut(town.roads[crossing.road].line, crossing.along_m - 2.6, crossing.along_m - 1.6)
            area = writer.polygon(lines.ribbon(line, LANE_M, -LANE_M))
            _stop_line(writer, area, "PED_CROSSING", [token], [], blocks[crossing.road, True])


def _stop_line(writer: _Writer, polygon: str, kind: str, crossings: list[str], lights: list[str], block: str) -> None:
    writer.add(
        "stop_line",
        polygon_token=polygon,
        stop_line_type=kind,
        ped_crossing_tokens=crossings,
        traffic_light_tokens=lights,
        road_block_token=block,
    )


def _dividers(writer: _Writer, segments: list[str]) -> dict[tuple[int, int], list[dict[str, str]]]:
    """Middle lines and lane lines; the nodes of each line by road and signed offset in lanes."""
    out = {}
    for number, road in enumerate(writer.town.roads):
        inner = lines.resample(lines.cut(road.line, STOP_LINE_M, road.length_m - STOP_LINE_M), 2.0)
        line, nodes = writer.line(inner)
        writer.add("road_divider", line_token=line, road_segment_token=segments[number])
        out[number, 0] = [{"node_token": node, "segment_type": "DOUBLE_SOLID_WHITE"} for node in nodes]
        for rank in range(1, road.lanes + 1):
            for side in (1, -1):
                line, nodes = writer.line(lines.offset(inner, side * rank * LANE_M))
                kind = "DOUBLE_DASHED_WHITE" if rank < road.lanes else "SINGLE_SOLID_WHITE"
                pieces = [{"node_token": node, "segment_type": kind} for node in nodes]
                if rank < road.lanes:  # the outermost line is the edge of the carriageway, not a divider
                    writer.add("lane_divider", line_token=line, lane_divider_segments=pieces)
                out[number, side * rank] = pieces
    return out


def _lane_records(writer: _Writer, dividers: dict[tuple[int, int], list[dict[str, str]]]) -> list[str]:
    tokens = []
    for lane in writer.town.lanes:
        inner, outer = _sides(lane, writer.town.drives_right)
        left_side, right_side = lines.offset(lane.line, LANE_M / 2), lines.offset(lane.line, -LANE_M / 2)
        ends = [writer.line(np.stack([left_side[index], right_side[index]]))[0] for index in (0, -1)]
        left, right = (inner, outer) if writer.town.drives_right else (outer, inner)
        tokens.append(
            writer.add(
                "lane",
                polygon_token=writer.polygon(_ribbon(lane.line, LANE_M / 2)),
                lane_type="CAR",
                from_edge_line_token=ends[0],
                to_edge_line_token=ends[1],
                left_lane_divider_segments=dividers[lane.road, left],
                right_lane_divider_segments=dividers[lane.road, right],
            )
        )
    return tokens


def _sides(lane: Lane, drives_right: bool) -> tuple[int, int]:
    """Signed offsets (in lanes, positive left of the road's line) of a lane's inner and outer border."""
    side = (-1 if drives_right else 1) * (1 if lane.forward else -1)
    return side * lane.rank, side * (lane.rank + 1)


def _connectivity(town: Town, lanes: list[str], connectors: list[str]) -> dict[str, dict[str, list[str]]]:
    out: dict[str, dict[str, list[str]]] = {token: {"incoming": [], "outgoing": []} for token in lanes + connectors}
    for token, item in zip(connectors, town.connectors):
        out[token] = {"incoming": [lanes[item.from_lane]], "outgoing": [lanes[item.to_lane]]}
        out[lanes[item.from_lane]]["outgoing"].append(token)
        out[lanes[item.to_lane]]["incoming"].append(token)
    return out


def arcline(line: NDArray[np.float64], piece_m: float = 3.0) -> list[dict[str, Any]]:
    """The line as circular arcs, in the devkit's arcline path records (left, straight, right: "LSR")."""
    points = lines.resample(line, piece_m)
    yaws = lines.headings(lines.resample(line, piece_m / 8))[::8][: len(points)]
    yaws = np.interp(np.linspace(0, 1, len(points)), np.linspace(0, 1, len(yaws)), np.unwrap(yaws))
    records = []
    for start, end, bend in zip(points, points[1:], np.diff(yaws)):
        chord = float(np.linalg.norm(end - start))
        direction = float(np.arctan2(*(end - start)[::-1]))
        straight = abs(bend) < 1e-4
        radius = 999.999 if straight else chord / (2 * np.sin(abs(bend) / 2))
        arc = chord if straight else radius * abs(bend)
        bend = 0.0 if straight else bend
        lengths = [0.0, arc, 0.0] if straight else [arc, 0.0, 0.0] if bend > 0 else [0.0, 0.0, arc]
        records.append(
            {
                "start_pose": [float(start[0]), float(start[1]), direction - bend / 2],
                "end_pose": [float(end[0]), float(end[1]), direction + bend / 2],
                "shape": "LSR",
                "radius": float(radius),
                "segment_length": [float(value) for value in lengths],
            }
        )
    return records


def mask_png(town: Town) -> bytes:
    """PNG of drivable area and walkways: 255 on them, 0 elsewhere; 10 px/m, north up."""
    cells = round(SIZE_M / MASK_CELL_M)
    image = np.zeros((cells, cells), np.uint8)
    for polygon in polygons_of(drivable_area(town).union(walkway_area(town))):
        rings = [
            np.round(np.array(ring.coords) / MASK_CELL_M * [1, -1] + [0, cells]).astype(np.int32)
            for ring in (polygon.exterior, *polygon.interiors)
        ]
        cv2.fillPoly(image, rings, (255,))
    done, data = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 6])
    assert done
    return data.tobytes()
