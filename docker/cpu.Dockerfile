# The server on CPU, with the demo checkpoint.
#
#   docker build -f docker/cpu.Dockerfile -t steersman:0.1.0-cpu .
#   docker run --rm -v steersman:/data steersman:0.1.0-cpu keys create --name me
#   docker run --rm -v steersman:/data -p 8080:8080 --read-only --stop-timeout 45 steersman:0.1.0-cpu
#
# It listens on all addresses of the container, and so it starts only once there is a key.

FROM rust:1.95-bookworm AS chef
RUN cargo install cargo-chef --version 0.1.78 --locked
WORKDIR /src

FROM chef AS plan
COPY . .
RUN cargo chef prepare --recipe-path recipe.json

FROM chef AS build
# dependencies in a layer of their own: a change of our sources builds only those
COPY --from=plan /src/recipe.json .
RUN cargo chef cook --release --locked --recipe-path recipe.json
COPY . .
RUN cargo build --release --locked

FROM debian:12-slim
RUN useradd --uid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin steersman \
    && install --directory --owner 10001 --mode 0700 /data
COPY --from=build /src/target/release/steersman /usr/local/bin/steersman
COPY models /opt/steersman/models
WORKDIR /opt/steersman
ENV STEERSMAN_ADDR=0.0.0.0:8080 \
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
