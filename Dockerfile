# chatcore, in two modes and for whatever else the command does:
#
#   docker run … chatcore            serves, on PORT of every address: 8000, or what the platform says
#   docker run … chatcore migrate    brings the database up to date, which production does at no other time
#   docker run … chatcore keys generate, users create-admin NAME
#
# It wants SECRET_KEY, ENCRYPTION_KEYS and DATABASE_URL, as compose.yaml gives them; without the last one it keeps a
# SQLite file in /data, which should be a volume then. Every other setting is in .env.example.

FROM python:3.13-slim AS build
RUN python -m venv --without-pip /opt/chatcore
WORKDIR /build
COPY requirements.lock ./
RUN pip --python /opt/chatcore/bin/python install --no-cache-dir --no-deps --only-binary=:all: --require-hashes -r requirements.lock
COPY hatch_build.py pyproject.toml README.md ./
COPY src src
RUN pip --python /opt/chatcore/bin/python install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.13-slim
RUN useradd --system --uid 10001 --no-create-home chatcore && install -d -o chatcore /data
COPY --from=build /opt/chatcore /opt/chatcore
ENV PATH=/opt/chatcore/bin:$PATH ENVIRONMENT=production HOST=0.0.0.0 PORT=8000 DATA_DIR=/data
USER 10001
WORKDIR /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=6s --start-period=30s CMD ["python", "-c", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ['PORT']), timeout=5); c.request('GET', '/ready'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["chatcore"]
CMD ["serve"]
