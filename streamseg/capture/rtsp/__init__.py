"""RTSP streams: session, transport, depacketising, decoding."""
