"""The control API: wire types, server and client. HTTP over a Unix socket, the caller known by SO_PEERCRED."""
