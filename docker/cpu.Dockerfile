# The server on CPU, with the demo checkpoint.
#   docker build -f docker/cpu.Dockerfile -t steersman .
#   docker run --network host steersman
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked

FROM debian:12-slim
RUN useradd --uid 10001 --create-home steersman
COPY --from=build /src/target/release/steersman /usr/local/bin/steersman
COPY --from=build /src/models /home/steersman/models
USER 10001
WORKDIR /home/steersman
ENTRYPOINT ["steersman"]
CMD ["serve"]
