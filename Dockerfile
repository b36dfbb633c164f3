# docker build -t proximadb .
FROM rust:1.95-bookworm AS build
WORKDIR /proximadb
COPY . .
# librdkafka and OpenSSL are built from source; the image has the compilers that they need.
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/proximadb/target \
    cargo build --release --locked --bin proximadb && cp target/release/proximadb /usr/local/bin/proximadb

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --no-create-home proximadb && install -d -o proximadb /data /pipelines
COPY --from=build /usr/local/bin/proximadb /usr/local/bin/proximadb
USER proximadb
VOLUME /data
EXPOSE 5678
# Ready, not merely alive. Without curl in the image, bash asks.
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s CMD ["bash", "-c", \
    "exec 3<>/dev/tcp/127.0.0.1/5678 && printf 'GET /readyz HTTP/1.0\r\n\r\n' >&3 && head -n 1 <&3 | grep -q ' 200 '"]
ENTRYPOINT ["proximadb"]
CMD ["serve", "--listen", "0.0.0.0:5678", "--data-dir", "/data", "--pipelines", "/pipelines"]
