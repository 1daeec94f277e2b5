import httpx

from hfdn_deploy.service.server import BoundedProtocol


def test_uvicorn_has_the_internals_that_are_used(served):
    """`BoundedProtocol` reads attributes that uvicorn does not document."""
    with httpx.Client() as client:
        assert client.get(f"http://127.0.0.1:{served.port}/healthz").status_code == 200
        (protocol,) = served.server.server_state.connections
        assert isinstance(protocol, BoundedProtocol)
        assert protocol.cycle.response_complete is True
        assert protocol.conn.trailing_data == (b"", False)
        assert protocol.transport.get_write_buffer_size() == 0
        assert callable(protocol.loop.call_later)
