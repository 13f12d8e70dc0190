# syntax=docker/dockerfile:1
# Builds on the platform of the builder image; for another one use `docker buildx build --platform linux/arm64`.

FROM rust:1.95.0-bookworm AS build
WORKDIR /src
# Dependencies first: this layer changes only with the manifest and the lock file.
COPY Cargo.toml Cargo.lock rust-toolchain.toml ./
RUN mkdir -p src benches tests/behaviour tests/interop examples/demo \
    && echo 'fn main() {}' | tee src/main.rs examples/demo/main.rs tests/behaviour/main.rs tests/interop/main.rs \
       benches/wire.rs benches/event.rs benches/end_to_end.rs > /dev/null \
    && touch src/lib.rs \
    && cargo build --release --locked --bin dynamodb-streams-adapter
COPY src src
ARG VCS_REF=unknown
ENV VCS_REF=${VCS_REF}
# The sources of the layer above are newer than nothing: make cargo see the real ones.
RUN touch src/main.rs src/lib.rs && cargo build --release --locked --bin dynamodb-streams-adapter

FROM debian:bookworm-20250811-slim AS certificates
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates

# Only the C library of a slim Debian and the root certificates; the process needs no shell and is not root.
FROM debian:bookworm-20250811-slim
ARG VCS_REF=unknown
LABEL org.opencontainers.image.title="dynamodb-streams-adapter" \
      org.opencontainers.image.description="Reads DynamoDB Streams and posts every change as a CloudEvent" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="${VCS_REF}"
COPY --from=certificates /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /src/target/release/dynamodb-streams-adapter /usr/local/bin/dynamodb-streams-adapter
USER 65532:65532
EXPOSE 8080
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/dynamodb-streams-adapter"]
