"""The figures as one Markdown table, and the limits as lines below it."""

from machine import MiB

HEAD = ["row", "work", "qcowfs", "beside", "", "ratio", "goal", "met", "of the limit"]


def plain(value):
    """Three digits, no exponent."""
    if value is None:
        return ""
    if value == 0 or value >= 100:
        return f"{value:.0f}"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


def with_unit(value, unit):
    return f"{plain(value)} {unit}".strip() if value is not None else ""


def ratio(value):
    return "" if value is None else "∞" if value == float("inf") else f"{value:.3f}" if value < 2 else f"{value:.1f}"


def cells(figure):
    if figure.skipped:
        return [figure.row, figure.work, f"not measured: {figure.skipped}", "", "", "", "", "", ""]
    return [figure.row, figure.work, with_unit(figure.ours, figure.unit), figure.peer_name if figure.peer is not None
            else "", with_unit(figure.peer, figure.unit), ratio(figure.ratio), str(figure.goal or ""),
            {None: "", True: "yes", False: "**no**"}[figure.met],
            "" if figure.share is None else f"{figure.share:.0%}"]


def markdown(figures):
    yield "| " + " | ".join(HEAD) + " |"
    yield "|" + "---|" * len(HEAD)
    for figure in figures:
        yield "| " + " | ".join(cells(figure)) + " |"


def limit_lines(measured):
    for what, value in sorted(measured.items()):
        if isinstance(value, dict):
            value = (f"{value['compress_mbps']:.0f} MB/s to compress to {value['ratio']:.3f}, "
                     f"{value['decompress_mbps']:.0f} MB/s back")
        elif isinstance(value, tuple):
            value = ", ".join(plain(part) for part in value)
        else:
            value = plain(value)
        yield f"- {what}: {value}"


def sizes_line(sizes, files_bytes):
    files = f" with {files_bytes / 1e6:.0f} MB of files" if files_bytes else ""
    return f"an ext4 image of {sizes.source // MiB} MiB{files}, clusters of 64 KiB"
