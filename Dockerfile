# Kong 3.9 (Ubuntu 24.04, Python 3.12) with Tenantgate's plugin servers; the models are built into the image.
#   docker build -t tenantgate .
FROM kong:3.9 AS base
USER root
# The check: Tenantgate needs Python 3.11, and a base image with an older one should fail here.
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))'

FROM base AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY requirements requirements
COPY src src
COPY plugins plugins
ENV TENANTGATE_MODELS=/opt/tenantgate/models
# Wheels only, each with the hash of its lock file; the build tools stay in a folder of their own.
RUN python3 -m venv /build \
    && /build/bin/pip install --no-cache-dir --require-hashes --only-binary :all: -r requirements/build.lock \
    && /build/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels . \
    && python3 -m venv /opt/tenantgate/venv \
    && /opt/tenantgate/venv/bin/pip install --no-cache-dir --require-hashes --only-binary :all: \
        -r requirements/runtime.lock \
    && /opt/tenantgate/venv/bin/pip install --no-cache-dir --no-deps /wheels/*.whl \
    && /opt/tenantgate/venv/bin/tenantgate models build

# A provider that answers without a model, for `docker compose --profile mock up`.
FROM base AS mock
COPY --from=build /opt/tenantgate/venv /opt/tenantgate/venv
COPY requirements/mock.lock /tmp/
RUN /opt/tenantgate/venv/bin/pip install --no-cache-dir --require-hashes --only-binary :all: -r /tmp/mock.lock
USER kong
EXPOSE 8089
ENTRYPOINT ["/opt/tenantgate/venv/bin/python", "-m", "tenantgate.devhost.mock_provider"]
CMD ["--host", "0.0.0.0", "--port", "8089"]

FROM base AS gateway
COPY --from=build /opt/tenantgate /opt/tenantgate
COPY plugins /opt/tenantgate/plugins
COPY kong.conf tenantgate-egress.conf /etc/kong/
# The audit log's folder; a volume that is mounted there takes its owner from here.
RUN install -d -o kong -g 0 -m 0770 /var/lib/tenantgate/policy /var/lib/tenantgate/audit
# /kong_prefix: Kong's sockets and temporary files. /etc/tenantgate: the rendered kong.yml.
RUN install -d -o kong -g 0 -m 0770 /kong_prefix /etc/tenantgate
ENV PATH=/opt/tenantgate/venv/bin:$PATH \
    TENANTGATE_PLUGINS=/opt/tenantgate/plugins \
    TENANTGATE_MODELS=/opt/tenantgate/models \
    KONG_PREFIX=/kong_prefix
USER kong
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["kong", "health", "-p", "/kong_prefix"]
