"""An RTSP server for tests. Runs under the system's python3, which has GStreamer; prints its port.

Pictures come from a test pattern, from a video file (decoded by whoever feeds us), or as raw grey frames
on the standard input, so that the sender decides what is drawn into each and when it leaves.
"""

import argparse
import os
import sys
import threading

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

PAY = {"h264": "rtph264pay config-interval=-1", "h265": "rtph265pay config-interval=-1", "jpeg": "rtpjpegpay"}


def encoder(options):
    codec, gop, bitrate = options.codec, options.gop, options.bitrate
    if codec == "h264":
        return (
            f"x264enc tune=zerolatency speed-preset=ultrafast key-int-max={gop} bitrate={bitrate} threads=1"
            f" interlaced={options.interlaced} option-string=slices={options.slices}"
        )
    if codec == "h265":
        return (
            f"x265enc tune=zerolatency speed-preset=ultrafast key-int-max={gop} bitrate={bitrate} "
            "log-level=-1 option-string=pools=1:frame-threads=1"
        )
    return "jpegenc quality=85"


def describe(options):
    """The pipeline in GStreamer's notation."""
    size = f"width={options.width},height={options.height}"
    caps = f"video/x-raw,{size},framerate={options.fps}/1"
    if options.interlaced:
        caps += ",interlace-mode=interleaved"
    if options.stdin:
        feed = f"appsrc name=feed is-live=true do-timestamp=true format=time caps={caps},format=GRAY8"
    else:
        feed = f"videotestsrc is-live=true pattern=smpte ! {caps}"
    coded = f"videoconvert ! video/x-raw,format=I420 ! {encoder(options)}"
    pay = f"{PAY[options.codec]} pt=96 mtu={options.mtu}"
    # The element named pay0 is what the server sends: losses happen behind the packets' numbering.
    pay += f" ! identity name=pay0 drop-probability={options.drop}" if options.drop else " name=pay0"
    return f"( {feed} ! {coded} ! {pay} )"


class Feeder:
    """Hands frames from the standard input to whatever pipeline runs; without a client they are dropped."""

    def __init__(self, size):
        self.source = None
        self.size = size

    def configure(self, _factory, media):
        source = media.get_element().get_by_name_recurse_up("feed")
        media.connect("unprepared", lambda *_: self.stop(source))
        self.source = source

    def stop(self, source):
        if self.source is source:
            self.source = None

    def run(self):
        while True:
            data = sys.stdin.buffer.read(self.size)
            if len(data) < self.size:
                os._exit(0)
            source = self.source
            # Before the pipeline's time begins a frame would be stamped with the time since the machine
            # started, and the sinks would wait for as long.
            playing = source is not None and source.current_state == Gst.State.PLAYING
            if playing and source.get_base_time():
                source.emit("push-buffer", Gst.Buffer.new_wrapped(data))


def protect(server, factory, options):
    """Let only one user in, by basic or digest authentication."""
    auth = GstRtspServer.RTSPAuth()
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "user")
    if options.auth == "digest":
        auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
        auth.add_digest(options.user, options.password, token)
    else:
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic(options.user, options.password), token)
    server.set_auth(auth)
    permissions = GstRtspServer.RTSPPermissions()
    permissions.add_role("user")
    for what in ("access", "construct"):
        permissions.add_permission_for_role("user", f"media.factory.{what}", True)
    factory.set_permissions(permissions)


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--width", type=int, default=320)
    parser.add_argument("--height", type=int, default=240)
    parser.add_argument("--fps", type=int, default=30)
    parser.add_argument("--codec", choices=list(PAY), default="h264")
    parser.add_argument("--gop", type=int, default=15)
    parser.add_argument("--slices", type=int, default=1, help="of a frame; only with h264")
    parser.add_argument("--bitrate", type=int, default=2000)
    parser.add_argument("--mtu", type=int, default=1400)
    parser.add_argument("--drop", type=float, default=0.0)
    parser.add_argument("--interlaced", action="store_true", help="only with --stdin and h264")
    parser.add_argument("--stdin", action="store_true")
    parser.add_argument("--user")
    parser.add_argument("--password")
    parser.add_argument("--auth", choices=["basic", "digest"], default="basic")
    return parser.parse_args()


def main():
    options = arguments()
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(str(options.port))
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(describe(options))
    factory.set_shared(True)
    factory.set_latency(0)
    if options.user:
        protect(server, factory, options)
    if options.stdin:
        feeder = Feeder(options.width * options.height)
        factory.connect("media-configure", feeder.configure)
        threading.Thread(target=feeder.run, daemon=True).start()
    server.get_mount_points().add_factory("/live", factory)
    if not server.attach(None):
        sys.exit("cannot listen")
    print(server.get_bound_port(), flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
