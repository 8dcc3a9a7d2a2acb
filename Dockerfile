# The program in an image: built in one stage, run as nobody special in the other.
FROM python:3.13-slim AS build
WORKDIR /srv/paceline
RUN python -m venv /venv
COPY requirements.image.lock ./
RUN /venv/bin/pip install --no-cache-dir --require-hashes -r requirements.image.lock
COPY . .
RUN /venv/bin/pip install --no-cache-dir --no-deps --no-build-isolation -e .

FROM python:3.13-slim
RUN useradd --uid 10001 --create-home paceline
COPY --from=build /venv /venv
COPY --from=build /srv/paceline /srv/paceline
WORKDIR /srv/paceline
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER paceline
STOPSIGNAL SIGTERM
CMD ["celery", "-A", "workers", "worker", "--without-gossip", "--without-mingle"]
