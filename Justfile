# Lists the recipes.
default:
    @just --list

# Everything that continuous integration runs.
check:
    .ci/run

# The whole suite, on SQLite and PostgreSQL.
test:
    ./scripts/test

# Faults under load, on both engines: `just crash [ROUNDS] [SEED]`.
crash *arguments:
    ./scripts/crash {{arguments}}

# Formats every crate.
fmt:
    cargo fmt --all

# A company's week against the built-in emulator; `just demo --keep-running` leaves both up.
demo *arguments:
    cargo run -- demo {{arguments}}

# Emulator, fixtures and verifier against WorkOS's own code: `just contracts`, `just contracts schema`, `just contracts node`.
contracts *which:
    ./scripts/contracts {{which}}

# Fuzzes what comes from outside: `just fuzz all 180`, `just fuzz header`.
fuzz *arguments:
    ./scripts/fuzz {{arguments}}

# Measures beside the documented handler, on this machine.
bench *arguments:
    ./scripts/bench {{arguments}}
