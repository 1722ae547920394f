"""One round trip with Eclipse Paho: connect, subscribe, publish at each QoS, receive, disconnect.

usage: paho_smoke.py HOST PORT 3.1.1|5 tcp|websockets [CA CERTIFICATE KEY]
Ends with status 0 when every message came back, once each; else says what is missing.
"""

import sys
import threading

import paho.mqtt.client as mqtt

DEADLINE_S = 20


def new_client(version, transport):
    protocol = mqtt.MQTTv5 if version == "5" else mqtt.MQTTv311
    name = f"paho-{version}"
    if hasattr(mqtt, "CallbackAPIVersion"):  # Paho 2
        return mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=name, protocol=protocol, transport=transport)
    return mqtt.Client(client_id=name, protocol=protocol, transport=transport)


def main(host, port, version, transport, ca=None, certificate=None, key=None):
    received, problems = [], []
    subscribed, complete = threading.Event(), threading.Event()

    def on_connect(client, _userdata, _flags, reason, *_):
        refused = reason.is_failure if hasattr(reason, "is_failure") else reason != 0
        if refused:
            problems.append(f"refused: {reason}")
            complete.set()
            return
        client.subscribe("ward/#", qos=2)

    def on_message(_client, _userdata, message):
        received.append((message.qos, message.payload.decode()))
        if len(received) >= 3:
            complete.set()

    client = new_client(version, transport)
    if ca:
        client.tls_set(ca_certs=ca, certfile=certificate, keyfile=key)
    client.on_connect = on_connect
    client.on_subscribe = lambda *_: subscribed.set()
    client.on_message = on_message
    client.connect(host, port)
    client.loop_start()
    if not subscribed.wait(DEADLINE_S):
        sys.exit(f"not subscribed in time {problems}")
    for qos in (0, 1, 2):
        client.publish("ward/b12", f"at qos {qos}", qos=qos).wait_for_publish()
    complete.wait(DEADLINE_S)
    client.disconnect()
    client.loop_stop()
    expected = [(qos, f"at qos {qos}") for qos in (0, 1, 2)]
    if problems or sorted(received) != expected:
        sys.exit(f"expected {expected}, received {received} {problems}")


main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
