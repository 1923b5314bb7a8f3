"""``streamseg live``: guidance from a live source."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streamseg.cli.options import EngineOption, ForceOption, JsonOption, SarOption


def live(
    ctx: typer.Context,
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SOURCE...",
            help="v4l2:/dev/video0, rtsp://host/path, igtl://host:port, a recording, or phantom:. "
            "Several are shown on one web page. Default: the profile's.",
            show_default=False,
        ),
    ] = None,
    display: Annotated[
        str | None, typer.Option(metavar="window|web|none", help="Kind of display. Default: window.")
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Record into a new folder in DIR: image, display and records. Of several sources, into "
            "DIR/stream-1, ...",
        ),
    ] = None,
    records: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.jsonl",
            help="Records of the segmented frames; of several sources FILE-1.jsonl, FILE-2.jsonl, ...",
        ),
    ] = None,
    age_budget_ms: Annotated[
        float | None,
        typer.Option(
            "--age-budget",
            metavar="MS",
            help="No outline is shown longer than this after capture. Default: 150.",
        ),
    ] = None,
    seconds: Annotated[float | None, typer.Option(min=0.1, metavar="N", help="End after N seconds.")] = None,
    profile: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Use saved settings. Several times: a stream for each, with its own source and settings.",
            show_default=False,
        ),
    ] = None,
    save_profile: Annotated[
        str | None, typer.Option(metavar="NAME", help="Save these settings under a name, then run.")
    ] = None,
    roi: Annotated[
        str | None,
        typer.Option(metavar="auto|none|x,y,w,h", help="The ultrasound image in the frame. Default: auto."),
    ] = None,
    mm_per_pixel: Annotated[
        float | None,
        typer.Option(metavar="MM", help="Scale as measured on the machine's ruler, for areas in mm²."),
    ] = None,
    engine: EngineOption = None,
    pace: Annotated[
        bool | None,
        typer.Option(
            "--pace/--no-pace", help="Recordings at their own speed (default), or as fast as possible."
        ),
    ] = None,
    transport: Annotated[str | None, typer.Option(metavar="tcp|udp", help="Transport of RTSP.")] = None,
    size: Annotated[str | None, typer.Option(metavar="WxH", help="Frame size of a frame grabber.")] = None,
    rate: Annotated[str | None, typer.Option(metavar="FPS", help="Frame rate of a frame grabber.")] = None,
    pixel_format: Annotated[
        str | None, typer.Option(metavar="yuyv|mjpeg|nv12|grey", help="Pixel format of a frame grabber.")
    ] = None,
    sar: SarOption = None,
    full_screen: Annotated[bool | None, typer.Option("--full-screen", help="Fill the screen.")] = None,
    opacity: Annotated[
        float | None, typer.Option(metavar="0..1", help="Opacity of the outline's fill.")
    ] = None,
    vessels: Annotated[
        bool | None,
        typer.Option(
            "--vessels/--no-vessels",
            help="Start with the outlines of vessels shown (default) or hidden; the key v changes it.",
        ),
    ] = None,
    full_frame: Annotated[
        bool | None,
        typer.Option("--full-frame", help="Show and record the whole screen; it may name the patient."),
    ] = None,
    host: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Address on which the web page listens.")
    ] = None,
    port: Annotated[
        int | None, typer.Option(metavar="PORT", help="Port of the web page. Default: 8765.")
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="STREAMSEG_TOKEN",
            metavar="TOKEN",
            help="Password of the web page; generated for addresses other than 127.0.0.1.",
        ),
    ] = None,
    public_url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Address at which a proxy serves the web page: https://host/path/."),
    ] = None,
    igtl: Annotated[
        str | None,
        typer.Option(
            metavar="[HOST:]PORT",
            help="Serve image, outlines and state by OpenIGTLink, to 3D Slicer and others.",
        ),
    ] = None,
    snapshots: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder in which the window's key s saves.")
    ] = Path(),
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show the nerve's outline in live video, on time or not at all.

    Always shows the newest frame; an outline only on the frame that it was computed from, and no longer than
    the age budget. Research software, not a medical device.
    """
    from streamseg.cli.live_run import RunRequest, configure, run
    from streamseg.cli.live_streams import configure_streams, run_several

    profiles = profile or []
    if len(sources or []) > 1 or len(profiles) > 1:
        streams = configure_streams(ctx.params, sources or [], profiles, save_as=save_profile)
        name = profiles[0] if len(profiles) == 1 else None
        request = RunRequest(seconds, record, records, token, snapshots, force, name)
        run_several(streams, request, profiles, as_json=as_json)
        return
    name = profiles[0] if profiles else None
    params = {**ctx.params, "source": sources[0] if sources else None}
    config = configure(params, profile=name, save_as=save_profile)
    request = RunRequest(seconds, record, records, token, snapshots, force, name or save_profile)
    run(config, request, as_json=as_json)
