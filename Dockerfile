# docker build --build-arg VCS_REF="$(git rev-parse HEAD)" -t dynamodb-streams-adapter .
#
# The base image can be replaced, by a mirror's name or by a digest. A tag is moved when Debian fixes something; a digest never:
#   docker buildx imagetools inspect rust:1.95.0-slim-trixie
#   docker build --build-arg BUILD_IMAGE=rust@sha256:... .
# The compiler's version is also in rust-toolchain.toml.
ARG BUILD_IMAGE=rust:1.95.0-slim-trixie

# What lists the crates; a layer of its own, so that no change of the sources builds it anew.
FROM ${BUILD_IMAGE} AS cyclonedx
RUN cargo install --locked --root /cyclonedx cargo-cyclonedx@0.5.9

FROM ${BUILD_IMAGE} AS build
WORKDIR /src
# jemalloc is built by make; jq joins what is said of the crates with what is said of the packages.
RUN apt-get update && apt-get install -y --no-install-recommends jq make && rm -rf /var/lib/apt/lists/*
COPY .cargo .cargo
# Kernels for arm64 have pages of 4, 16 or 64 KiB, and jemalloc runs only where they are no larger than those it was built for.
RUN [ "$(uname -m)" != aarch64 ] || echo 'JEMALLOC_SYS_WITH_LG_PAGE = "16"' >> .cargo/config.toml
# The crates come first and stay in the cache until the manifest or the lock file changes. Tests, benches and the demo are
# not copied, and cargo insists on the files that the manifests name.
COPY Cargo.toml Cargo.lock ./
COPY examples/demo/Cargo.toml examples/demo/
RUN sed -i '/^\[\[\(test\|bench\)\]\]$/,/^$/d' Cargo.toml \
    && mkdir src examples/demo/src && echo 'fn main() {}' | tee src/main.rs > examples/demo/src/main.rs && touch src/lib.rs \
    && cargo build --profile dist --features jemalloc,scaler --locked --package dynamodb-streams-adapter --bin dynamodb-streams-adapter
COPY src src
# What `--version` and the metric of the build say; it does not touch the layers above.
ARG VCS_REF=unknown
# The files keep their times when they are copied, and may be older than the empty ones that were just compiled.
RUN touch src/main.rs src/lib.rs \
    && VCS_REF="${VCS_REF}" cargo build --profile dist --features jemalloc,scaler --locked --package dynamodb-streams-adapter --bin dynamodb-streams-adapter
# The whole image: the program, the libraries that it is linked with, root certificates, a name for its user, where names of
# hosts are looked up, and places for what the container runtime mounts. No shell, no package manager.
RUN mkdir -p /image/dev /image/etc /image/proc /image/sys && mkdir -m 1777 /image/tmp \
    && install -D -t /image/usr/local/bin target/dist/dynamodb-streams-adapter \
    && ldd target/dist/dynamodb-streams-adapter | grep -o '/[^ ]*' | xargs cp --parents --dereference -t /image \
    && cp --parents --dereference -t /image /etc/ssl/certs/ca-certificates.crt \
    && echo 'nonroot:x:65532:65532:nonroot:/:/sbin/nologin' > /image/etc/passwd \
    && echo 'nonroot:x:65532:' > /image/etc/group \
    && echo 'hosts: files dns' > /image/etc/nsswitch.conf
# What all that is, for those who look for vulnerabilities and licences in it.
COPY --from=cyclonedx /cyclonedx/bin/cargo-cyclonedx /usr/local/bin/
COPY image image
RUN mkdir -p /image/usr/share/sbom && image/sbom /image jemalloc,scaler > /image/usr/share/sbom/dynamodb-streams-adapter.cdx.json

# The list alone, beside the image: docker build --target sbom --output . .
FROM scratch AS sbom
COPY --from=build /image/usr/share/sbom /

FROM scratch
ARG VCS_REF=unknown
LABEL org.opencontainers.image.title="dynamodb-streams-adapter" \
      org.opencontainers.image.description="Reads DynamoDB Streams and posts every change as a CloudEvent" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${VCS_REF}" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY LICENSE /licenses/LICENSE
COPY --from=build /image /
ENV PATH=/usr/local/bin SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
# A number: Kubernetes cannot tell whether a name is root.
USER 65532:65532
EXPOSE 8080
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/dynamodb-streams-adapter"]
