//! Nothing but tests: WorkOS's own code against the emulator and the service. Run `./scripts/contracts`.
