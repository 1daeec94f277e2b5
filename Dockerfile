# The service on CPUs. docs/how-to/containers.md says how to build and run it.

FROM python:3.11-slim AS build
COPY . /source
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels /source \
    && python -m venv /opt/hfdn \
    && /opt/hfdn/bin/pip install --no-cache-dir --constraint /source/constraints.txt \
        "$(echo /wheels/*.whl)[cpu,openvino,serve]"

FROM python:3.11-slim
COPY --from=build /opt/hfdn /opt/hfdn
# The user has no home. The service writes no files; libraries that do use /tmp.
ENV PATH=/opt/hfdn/bin:$PATH HOME=/tmp PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 10001:10001
EXPOSE 8000
# Opening the models takes up to a minute on one CPU.
HEALTHCHECK --start-period=60s --interval=30s --timeout=5s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/livez', timeout=4)"]
ENTRYPOINT ["hfdn"]
CMD ["serve", "--host", "0.0.0.0"]
