# The server with CUDA, for NVIDIA GPUs of compute capability 8.0 and up. Not run on a GPU yet: docs/gpu.md.
#
#   docker build -f docker/cuda.Dockerfile -t steersman:0.1.0-cuda .
#   docker run --rm -v steersman:/data steersman:0.1.0-cuda keys create --name me
#   docker run --rm --gpus all -v steersman:/data -p 8080:8080 --read-only --stop-timeout 45 steersman:0.1.0-cuda
#
# The driver comes with NVIDIA's container runtime; nothing else of CUDA's is needed.

FROM rust:1.95-bookworm AS chef
RUN cargo install cargo-chef --version 0.1.78 --locked
RUN apt-get update && apt-get install --yes --no-install-recommends python3-pip \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src

FROM chef AS plan
COPY . .
RUN cargo chef prepare --recipe-path recipe.json

FROM chef AS build
COPY tests/cuda/toolkit.sh /toolkit.sh
RUN /toolkit.sh /nvcc
ENV NVCC=/nvcc/bin/nvcc
# dependencies in a layer of their own: a change of our sources builds only those
COPY --from=plan /src/recipe.json .
COPY src/kernel/cuda/device src/kernel/cuda/device
RUN cargo chef cook --release --locked --features cuda --recipe-path recipe.json
COPY . .
RUN cargo build --release --locked --features cuda

FROM debian:12-slim
RUN useradd --uid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin steersman \
    && install --directory --owner 10001 --mode 0700 /data
COPY --from=build /src/target/release/steersman /usr/local/bin/steersman
COPY models /opt/steersman/models
WORKDIR /opt/steersman
# the runtime mounts the driver's libraries for these
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    STEERSMAN_DEVICE=cuda \
    STEERSMAN_ADDR=0.0.0.0:8080 \
    STEERSMAN_DATA_DIR=/data \
    STEERSMAN_LOG_FORMAT=json
VOLUME /data
EXPOSE 8080
USER 10001
# the start period is for models that take minutes to load
HEALTHCHECK --interval=15s --timeout=10s --start-period=600s --retries=3 \
    CMD ["steersman", "health"]
ENTRYPOINT ["steersman"]
CMD ["serve"]
