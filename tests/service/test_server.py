import httpx

from hfdn_deploy.service.server import BoundedProtocol


def test_uvicorn_has_the_internals_that_are_used(served):
    """`BoundedProtocol` reads attributes that uvicorn does not document."""
    with httpx.Client() as client:
        answer = client.get(f"http://127.0.0.1:{served.port}/healthz")
        assert answer.status_code == 200
        ours = answer.extensions["network_stream"].get_extra_info("client_addr")
        # Connections of other tests may still be closing.
        open_ones = served.server.server_state.connections
        (protocol,) = (x for x in open_ones if x.transport.get_extra_info("peername") == ours)
        assert isinstance(protocol, BoundedProtocol)
        assert protocol.cycle.response_complete is True
        assert protocol.conn.trailing_data == (b"", False)
        assert protocol.transport.get_write_buffer_size() == 0
        assert callable(protocol.loop.call_later)
