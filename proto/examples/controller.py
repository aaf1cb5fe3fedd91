#!/usr/bin/env python3
"""Drives a Chorus cluster over its multicast group. Written from ../PROTOCOL.md alone."""
import argparse, itertools, secrets, socket, struct, sys, time, tomllib, uuid
from pathlib import Path
import blake3, msgpack
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

HEADER_BYTES, DATAGRAM_BYTES_MAX, REPEAT_SECONDS, SURVEY_SECONDS, ANSWER_SECONDS = 48, 1400, 0.1, 0.6, 10.0
EXIT_CODES = dict(no_leader=3, not_found=4, id_reused=5, stale_version=5, invalid=2, too_large=2, request_expired=2)
VERBS = {"status": 0, "store": 2, "retrieve": 0, "trylead": 1}  # and how many words follow

class Controller:
    """One start of one sender, speaking under the common tag of a secret."""
    def __init__(self, place):
        self.place, self.secret, self.seq = place, read_key(place["key_file"]), itertools.count(1)
        tag = blake3.blake3(self.secret + bytes(24), derive_key_context="Chorus v1 tag of secret, cluster id, epoch")
        self.first_bytes = b"Ch\x01\x01\0\0\0\0" + tag.digest()[:8]
        self.sender, self.boot, self.salt = secrets.token_bytes(8), time.time_ns() // 1000, secrets.token_bytes(8)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, place["ttl"])
        if (link := place["interface"]) != "any":
            which = struct.pack("=8xi", socket.if_nametoindex(link)) if link[:1].isalpha() else socket.inet_aton(link)
            self.socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, which)

    def cipher_and_nonce(self, header):
        context = "Chorus v1 datagram key of secret, sender, boot, salt"
        key = blake3.blake3(self.secret + header[16:40], derive_key_context=context).digest()
        return ChaCha20Poly1305(key), bytes(4) + header[40:48]

    def seal(self, message):
        header = struct.pack(">16s8sQ8sQ", self.first_bytes, self.sender, self.boot, self.salt, next(self.seq))
        cipher, nonce = self.cipher_and_nonce(header)
        datagram = header + cipher.encrypt(nonce, msgpack.packb(message), header)
        if len(datagram) > DATAGRAM_BYTES_MAX:
            fail(2, f"the request has {len(datagram)} bytes; one datagram holds {DATAGRAM_BYTES_MAX}")
        return datagram

    def open(self, datagram):
        """What a datagram says, if it is from our cluster. It may be old: `ask` looks for an id that is new."""
        header, sealed = datagram[:HEADER_BYTES], datagram[HEADER_BYTES:]
        try:
            cipher, nonce = self.cipher_and_nonce(header)
            return msgpack.unpackb(cipher.decrypt(nonce, sealed, header)) if header[8:16] == self.first_bytes[8:] else {}
        except (InvalidTag, ValueError):
            return {}

    def ask(self, request, seconds, **fields):
        """Says a request again and again, each time sealed anew, and yields what answers it."""
        message = dict(request=request, sender_name="controller", recipient="E", request_id=str(uuid.uuid4())) | fields
        group, _, port = self.place["group"].partition(":")
        say_at, until = 0.0, time.monotonic() + seconds
        while (now := time.monotonic()) < until:
            if now >= say_at:
                self.socket.sendto(self.seal(message), (group, int(port)))
                say_at = now + REPEAT_SECONDS
            self.socket.settimeout(max(min(until, say_at) - now, 0.001))
            try:
                answer = self.open(self.socket.recv(65536))
            except TimeoutError:
                continue
            if answer.get("request_id") == message["request_id"]:
                say_at = max(say_at, time.monotonic() + (answer.get("retry_ms") or 0) / 1000)
                yield answer

    def result(self, request, **fields):
        """What the one node that carries out a request says came of it."""
        failure = 3, f"nobody answers on {self.place['group']}"
        for answer in self.ask(request, ANSWER_SECONDS, **fields):
            if answer["request"] == "DONE":
                return answer["result"]
            if answer["request"] == "LEADER_INFO":
                failure = 3, f"the leader ({answer.get('leader_name') or 'nobody'}) does not answer"
            elif answer["request"] == "REFUSED":
                failure = EXIT_CODES.get(answer["code"], 1), f"{answer['detail']} ({answer['code']})"
                if answer.get("retry_ms") is None:
                    break
        fail(*failure)

    def survey(self):
        """What each node reports; of a voter that is silent, its name."""
        reports, voters = {}, set()
        for answer in self.ask("STATUS", SURVEY_SECONDS):
            reports[answer["result"]["name"]] = answer["result"]
            voters.update(answer["result"].get("voters") or [])
            if voters and voters <= reports.keys():
                break
        return [reports.get(name, {"name": name, "role": "dead"}) for name in sorted(voters | reports.keys())]

    def status(self):
        nodes = self.survey()
        table(nodes, "name", "role", "term", "last_index", "commit_index", "applied_index", "url")
        if not any(node["role"] == "leader" for node in nodes):
            fail(3, "no leader: " + ("; ".join(node["why"] for node in nodes if node.get("why")) or "silence"))

    def store(self, key, value):
        result = self.result("STORE", board="store", op="put", key=key, value=value)
        print(f"{result['outcome']} at index {result['index']}: {key}")

    def retrieve(self):
        entries, after = [], 0
        while after is not None:
            result = self.result("RETRIEVE", after=after, limit=64)
            entries, after = entries + result["entries"], result.get("next")
        table(entries, "index", "term", "board", "command", "key", "value")

    def trylead(self, name):
        control_key, request_id = read_key(self.place["control_key"]), str(uuid.uuid4())
        node = next((node for node in self.survey() if node["name"] == name), {})
        target, boot = int(node.get("id", "0"), 16), node.get("boot") or fail(4, f"{name} does not answer")
        signed = b"Chorus v1 control\0\x07TRYLEAD" + struct.pack(">QQB", target, boot, len(request_id))
        signature = Ed25519PrivateKey.from_private_bytes(control_key).sign(signed + request_id.encode())
        result = self.result("TRYLEAD", request_id=request_id, target=target, target_boot=boot, signature=signature)
        print(f"{name}: {result['detail']}")

def read_key(path):
    key = bytes.fromhex(Path(path).read_text()) if path else b""
    return key if len(key) == 32 else fail(2, f"{path} is no key; name --data-dir, or --key-file and --control-key")

def table(rows, *fields):
    lines = [fields, *(["-" if row.get(field) is None else str(row[field]) for field in fields] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines)]
    print(*("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines), sep="\n")

def fail(code, sentence):
    print(f"controller: {sentence}", file=sys.stderr)
    sys.exit(code)

def main():
    usage = "%(prog)s [OPTIONS] status | store KEY VALUE | retrieve | trylead NODE"
    parser = argparse.ArgumentParser(description=__doc__, usage=usage, argument_default=argparse.SUPPRESS)
    for flag in "--data-dir", "--group", "--interface", "--key-file", "--control-key":
        parser.add_argument(flag)
    parser.add_argument("words", nargs="+", metavar="VERB", help="the verb and its words")
    given = vars(parser.parse_args())
    place = dict(group="239.255.77.77:5555", interface="any", ttl=1, key_file=None, control_key=None)
    if directory := given.get("data_dir"):
        place |= tomllib.loads(Path(directory, "client.toml").read_text())
        place |= {key: Path(directory, place[key]) for key in ("key_file", "control_key")}
    verb, *words = given["words"]
    if VERBS.get(verb) != len(words):
        parser.error(f"'{' '.join(given['words'])}' is none of these")
    getattr(Controller(place | given), verb)(*words)

if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError) as error:
        fail(2 if isinstance(error, ValueError) or error.filename else 1, error)
