"""`adaptry` for the shells of the pages: forked from a process that has imported it.

A page runs a dozen commands, and each would take half a second of CPU for imports alone. What is
first in the shell's PATH is a small program, which hands its arguments, environment, folder and
standard files to that process.

    python -m tests.support.docs.forked_commands SOCKET
"""

import atexit
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from functools import cache
from pathlib import Path
from typing import NoReturn

from tests.support.workers.start import short_path
from tests.support.workers.threads import require_one_thread

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = f"""#!{sys.executable} -IS
import json, os, socket, sys
to = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
# by a path that a socket can have: TMPDIR may be longer
folder = os.open(os.path.dirname(__file__), os.O_RDONLY | os.O_DIRECTORY)
to.connect(f"/proc/self/fd/{{folder}}/socket")
os.close(folder)
call = [sys.argv[1:], dict(os.environ), os.getcwd()]
socket.send_fds(to, [json.dumps(call).encode()], [0, 1, 2])
answer = to.recv(1)
sys.exit(answer[0] if answer else 1)
"""


@cache
def folder_of_commands() -> Path:
    """To be first in the PATH. It is there until this process ends."""
    folder = Path(tempfile.mkdtemp(prefix="adaptry-commands-"))
    program = folder / "adaptry"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    command = [sys.executable, "-m", "tests.support.docs.forked_commands"]
    command.append(str(folder / "socket"))
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
    atexit.register(_end, process, folder)
    assert process.stdout is not None
    with process.stdout as output:
        assert output.readline(), "it did not start"
    return folder


def _end(process: "subprocess.Popen[bytes]", folder: Path) -> None:
    process.terminate()
    process.wait(10)
    shutil.rmtree(folder)


def serve(address: str) -> NoReturn:
    import adaptry.cli  # noqa: F401  # for the forks

    require_one_thread()
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with short_path(address) as short:
        listening.bind(short)
    listening.listen(16)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks for the exit code
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while True:
        caller, _ = listening.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            listening.close()
            run(caller)
        caller.close()


def run(caller: socket.socket) -> NoReturn:
    """One command, in the place of this process."""
    from adaptry.cli import main

    packet, files, _, _ = socket.recv_fds(caller, 1 << 20, 3)
    arguments, environment, folder = json.loads(packet)
    for standard, file in enumerate(files):
        os.dup2(file, standard)
        os.close(file)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["adaptry", *arguments]
    threading.Thread(target=_end_with, args=(caller,), daemon=True).start()
    try:
        code = main(arguments)
    except SystemExit as ending:
        code = ending.code if isinstance(ending.code, int) else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    caller.send(bytes([code]))
    os._exit(code)


def _end_with(caller: socket.socket) -> None:
    """The shell has ended the program that waits for this one."""
    if not caller.recv(1):
        os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    serve(sys.argv[1])
