from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer

from hfdn_deploy import InputError
from hfdn_deploy.cluster import locate
from hfdn_deploy.cluster import ray as on_ray
from tests.helpers.cluster import OPTIONS


@pytest.mark.slow
def test_an_object_store(cluster, pictures, local, tmp_path):
    """Images from a bucket to a bucket and to a disk, with an S3 server."""
    server = ThreadedMotoServer(port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        options = f"?scheme=http&endpoint_override={host}:{port}&allow_bucket_creation=true"
        source, target = (f"s3://key:secret@photos/{name}{options}" for name in ("in", "out"))
        storage, path = locate(source)
        storage.system.create_dir("photos")
        for picture in pictures.iterdir():
            storage.write(path / picture.name, picture.read_bytes())

        found = {one.output: one for one in on_ray.run(on_ray.plan([source], target), OPTIONS)}
        assert set(found) == {*local, "poison.png"}
        assert found["0.png"].input == "s3://photos/in/0.png"
        assert "s3://photos/in/poison.png is truncated" in found["poison.png"].error
        outputs = storage.listing(Path("photos/out"))
        results = outputs.pop(Path("photos/out/results.jsonl"))
        assert {path.name: storage.read(path) for path in outputs} == local
        assert results.bytes > 8 * 100

        again = on_ray.plan([source], target, resume=True)
        assert [job.target.name for job in again.jobs] == ["poison.png"]
        with pytest.raises(InputError, match="there already; --force"):
            on_ray.plan([source], target)
        with pytest.raises(InputError, match="holds inputs, which would be overwritten"):
            on_ray.plan([source], source, force=True)
        with pytest.raises(InputError, match=r"no image in s3.*/none"):
            on_ray.plan([source.replace("/in", "/none")], target)
        with pytest.raises(InputError, match="cannot be read"):
            storage.read(path / "missing.png")
        with pytest.raises(InputError, match="cannot be written"):
            storage.write(Path("no-such-bucket") / "a.png", b"")
        one = on_ray.plan([source.replace("/in", "/in/0.png")], str(tmp_path))
        assert [job.source.name for job in one.jobs] == ["0.png"]
    finally:
        server.stop()
