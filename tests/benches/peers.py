"""Sends no-op tasks by Celery or dramatiq, and prints how many a second: `peers.py celery|dramatiq TASKS`.

Celery with the guarantees that Lakehold gives: a quorum queue, confirms, late acknowledgement, stored results. dramatiq as
it comes: a classic queue and no confirms, with stored results. The worker is a process group of its own; time runs from
the first task sent until the last result lies in Redis.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import redis

BROKER, RESULTS = os.environ["BROKER"], os.environ["RESULTS"]


def celery_app():
    from celery import Celery

    app = Celery("peers", broker=BROKER.replace("amqp://", "pyamqp://"), backend=RESULTS)
    app.conf.update(
        task_acks_late=True,
        task_default_queue="celery-quorum",
        task_default_queue_type="quorum",
        worker_detect_quorum_queues=True,
        broker_transport_options={"confirm_publish": True},
        worker_prefetch_multiplier=4,
    )
    return app


def dramatiq_broker():
    import dramatiq
    from dramatiq.brokers.rabbitmq import RabbitmqBroker
    from dramatiq.results import Results
    from dramatiq.results.backends import RedisBackend

    broker = RabbitmqBroker(url=BROKER)
    broker.add_middleware(Results(backend=RedisBackend(url=RESULTS)))
    dramatiq.set_broker(broker)
    return dramatiq


def nothing(n):
    return n


if len(sys.argv) > 1 and sys.argv[1] in ("celery", "dramatiq"):
    os.environ["PEER"] = sys.argv[1]
# Both workers import this file again, by its name.
if os.environ["PEER"] == "celery":
    app = celery_app()
    noop = app.task(name="noop")(nothing)
    WORKER = ["-m", "celery", "-A", "peers", "worker", "-c", "2", "-P", "prefork", "-l", "warning"]
    send = noop.delay
else:
    noop = dramatiq_broker().actor(nothing, actor_name="noop", queue_name="peers", store_results=True)
    WORKER = ["-m", "dramatiq", "peers", "-p", "2", "-t", "8"]
    send = noop.send


def results(store, count: int):
    """Waits until so many results are there."""
    patience = time.monotonic() + 600
    while store.dbsize() < count:
        if time.monotonic() > patience:
            raise SystemExit(f"{store.dbsize()} of {count} results after ten minutes")
        time.sleep(0.02)


def main():
    tasks = int(sys.argv[2])
    store = redis.from_url(RESULTS)
    store.flushall()
    worker = subprocess.Popen([sys.executable, "-B", *WORKER], cwd=Path(__file__).parent, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL, start_new_session=True)  # fmt: skip
    try:
        for n in range(50):
            send(n)
        results(store, 50)
        store.flushall()
        began = time.monotonic()
        for n in range(tasks):
            send(n)
        results(store, tasks)
        print(tasks / (time.monotonic() - began))
    finally:
        os.killpg(worker.pid, signal.SIGTERM)
        try:
            worker.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(worker.pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
