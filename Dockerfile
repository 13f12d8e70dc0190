# docker build --build-arg VCS_REF="$(git rev-parse HEAD)" -t dynamodb-streams-adapter .
#
# Both base images can be replaced, by a mirror's names or by digests. A tag is moved when Debian fixes something; a digest never:
#   docker buildx imagetools inspect gcr.io/distroless/cc-debian13:nonroot
#   docker build --build-arg RUNTIME_IMAGE=gcr.io/distroless/cc-debian13@sha256:... .
# The compiler's version is also in rust-toolchain.toml, and both stages are Debian 13: one C library.
ARG BUILD_IMAGE=docker.io/library/rust:1.95.0-slim-trixie
ARG RUNTIME_IMAGE=gcr.io/distroless/cc-debian13:nonroot

FROM ${BUILD_IMAGE} AS build
WORKDIR /src
# The crates come first and stay in the cache until the manifest or the lock file changes. Tests, benches and examples are
# not copied, and cargo insists on the files that the manifest names.
COPY Cargo.toml Cargo.lock ./
RUN sed -i '/^\[\[\(test\|bench\|example\)\]\]$/,/^$/d' Cargo.toml \
    && mkdir src && echo 'fn main() {}' > src/main.rs && touch src/lib.rs \
    && cargo build --release --locked --bin dynamodb-streams-adapter
COPY src src
# What `--version` and the metric of the build say; it does not touch the layers above.
ARG VCS_REF=unknown
# The files keep their times when they are copied, and may be older than the empty ones that were just compiled.
RUN touch src/main.rs src/lib.rs \
    && VCS_REF="${VCS_REF}" cargo build --release --locked --bin dynamodb-streams-adapter

# The C library, libgcc, root certificates and time zones of Debian; no shell, no package manager.
FROM ${RUNTIME_IMAGE}
ARG VCS_REF=unknown
LABEL org.opencontainers.image.title="dynamodb-streams-adapter" \
      org.opencontainers.image.description="Reads DynamoDB Streams and posts every change as a CloudEvent" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${VCS_REF}" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY LICENSE /licenses/LICENSE
COPY --from=build /src/target/release/dynamodb-streams-adapter /usr/local/bin/dynamodb-streams-adapter
# A number: Kubernetes cannot tell whether a name is root.
USER 65532:65532
EXPOSE 8080
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/dynamodb-streams-adapter"]
