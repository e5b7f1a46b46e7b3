# fedgate's image: the program, the libraries it is linked with, the trust roots, and nothing else:
# no shell, no package manager. It runs as an ordinary user and writes only /var/lib/fedgate.
#
#   docker build -t fedgate .                              # compiles in the build stage
#   docker build -t fedgate --build-arg BINARY=prebuilt .  # takes ./fedgate, compiled for BASE
#
# BuildKit is needed (the default since Docker 23; with 20.10 set DOCKER_BUILDKIT=1): it builds only
# the stages that are used.

ARG BASE=debian:bookworm-slim
ARG RUST_BASE=rust:1-bookworm
ARG BINARY=build

# The program, compiled here. The two caches make the next build a short one.
FROM ${RUST_BASE} AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin fedgate \
 && install -s target/release/fedgate /fedgate

# The program, compiled elsewhere.
FROM scratch AS prebuilt
COPY fedgate /fedgate

FROM ${BINARY} AS binary

# The root file system of the image, put together in /image.
FROM ${BASE} AS assembly
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates \
 && rm -rf /var/lib/apt/lists/*
COPY --from=binary /fedgate /image/usr/bin/fedgate
RUN set -eu; cd /image; \
    chmod 0755 usr/bin/fedgate; \
    mkdir -p etc/fedgate/conf.d etc/ssl/certs /state; \
    ldd usr/bin/fedgate > /libraries; \
    grep -o '/[^ ]*' /libraries | while read -r library; do \
        install -D "$library" ".$library"; \
    done; \
    cp /etc/ssl/certs/ca-certificates.crt etc/ssl/certs/; \
    echo 'hosts: files dns' > etc/nsswitch.conf; \
    echo 'fedgate:x:64123:64123:fedgate:/var/lib/fedgate:/usr/sbin/nologin' > etc/passwd; \
    echo 'fedgate:x:64123:' > etc/group; \
    chroot . /usr/bin/fedgate --version

# What docker-compose.redirect.yml has beside it, with --target redirect: loads the redirect into its
# network namespace, and then holds that, without any privilege.
FROM ${BASE} AS redirect
RUN apt-get update \
 && apt-get install -y --no-install-recommends nftables \
 && rm -rf /var/lib/apt/lists/*
COPY --from=binary --chmod=0755 /fedgate /usr/bin/fedgate
CMD ["sh", "-c", "fedgate steer nftables --fedgate-user 64123 --apply && exec setpriv --reuid=nobody --regid=nogroup --clear-groups --bounding-set=-all sleep infinity"]

FROM scratch AS runtime
COPY --from=assembly /image /
COPY --from=assembly --chown=64123:64123 /state /var/lib/fedgate
USER 64123:64123
VOLUME /var/lib/fedgate
EXPOSE 5269 5270
HEALTHCHECK --interval=10s --timeout=6s --start-period=10s --retries=3 \
    CMD ["/usr/bin/fedgate", "health", "--config", "/etc/fedgate/conf.d"]
ENTRYPOINT ["/usr/bin/fedgate"]
CMD ["run", "--config", "/etc/fedgate/conf.d"]
