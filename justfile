# The one door for people and CI.

# The whole thing on one machine, with an embedded DynamoDB.
demo *arguments:
    cargo run -p demo -- {{arguments}}

# All tests that need nothing but Rust and a C compiler.
test:
    cargo test

# Formatting, lints and documentation, warnings as errors.
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    RUSTDOCFLAGS=-Dwarnings cargo doc --workspace --no-deps
    cargo clippy --workspace --all-targets --features scaler -- -D warnings
    RUSTDOCFLAGS=-Dwarnings cargo doc --workspace --no-deps --features scaler

# The scaler for KEDA.
test-scaler:
    cargo test --features scaler --lib --test scaler

# Licences, advisories and bans; needs cargo-deny.
deny:
    cargo deny check

# Fuzzes everything that parses what others send, for so many seconds; needs a C++ compiler.
fuzz seconds="3600" *targets:
    fuzz/run {{seconds}} {{targets}}

# Against emulators, other languages' libraries, a browser, Prometheus and Kubernetes' schemas. Installs what it needs into
# .interop/ (needs a JDK, Maven, Python, Go, Node, kubectl or kustomize, and apt's rights for chromium).
interop:
    tests/deny/run
    tests/interop/run
    READERS_ALL=1 tests/readers/run
    tests/page/run
    tests/monitoring/run
    tests/manifests/run
    tests/knative/run
    tests/keda/run

# The manifests and KEDA's operator against a real API server, without nodes; builds them from Go modules, a quarter of an hour the first time.
cluster:
    tests/cluster/run

# Builds the image with buildah on a local stand-in for its base, and tests it; as root, 11 minutes the first time.
image:
    tests/image/run

# The table of docs/performance.md.
bench:
    cargo bench --profile dist --features jemalloc --bench end_to_end
    cargo bench --profile dist --bench event
    cargo bench --profile dist --bench wire
    cargo bench --profile dist --bench state
    cargo bench --profile dist --bench positions

# The process's memory against its bound, with either allocator; minutes, and a gigabyte for what there is to read.
memory:
    cargo bench --bench memory
    cargo bench --bench memory --features jemalloc

# The crash test with 1,000 kills instead of 200.
soak:
    SOAK_KILLS=1000 cargo test --release --test behaviour killed_at -- --nocapture

# Two processes and a table of positions: 100 rolling updates, kills, pauses and cuts of the network; a quarter of an hour.
soak-owners:
    SOAK_ROUNDS=100 cargo test --release --test owners -- --nocapture

# Weeks in virtual time, until it is stopped: docs/simulation.md.
simulate from="0":
    SIMULATION_FROM={{from}} cargo test --release --test simulation -- --ignored --nocapture until_it_is_stopped

# The story of one seed.
story seed:
    SIMULATION_SEED={{seed}} cargo test --release --test simulation -- --ignored --nocapture story_of_a_seed

# The story of one seed of several processes that share a table of positions.
story-of-several seed:
    SIMULATION_SEED={{seed}} cargo test --release --test simulation -- --ignored --nocapture story_of_several_processes

# Writes the generated parts of the documentation anew.
docs:
    UPDATE_DOCS=1 cargo test --test config --lib

# What CI runs.
ci:
    bash .ci/run
