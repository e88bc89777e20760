"""What lies in the folder of a server: files to read, those whose upload is over, the others."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from exchange.connect import Misconfigured, Text
from exchange.connectors.files.folder import MAX_FILES, SUFFIXES
from exchange.connectors.files.uploads import UploadEntry, flag_of
from exchange.connectors.sftp.session import RemoteFile


@dataclass(frozen=True, slots=True)
class RemoteListing:
    """Files of the server's folder."""

    files: Sequence[RemoteFile]
    """What the glob names and can be read."""
    ready: Sequence[RemoteFile]
    """Those whose upload is over."""
    passed: Mapping[str, Text]
    """What is passed over, with the reason."""

    @classmethod
    def sort(cls, found: Sequence[RemoteFile], glob: str, flag: str) -> RemoteListing:
        """Sort the entries; case does not count. Raises Misconfigured for too many files."""
        pattern = re.compile(fnmatch.translate(glob), re.IGNORECASE)
        times = {entry.name: entry.time for entry in found}
        flags = {flag_of(flag, entry.name) for entry in found} if flag else set()
        files: list[RemoteFile] = []
        passed: dict[str, Text] = {}
        for entry in found:
            if entry.name in flags or not pattern.match(entry.name):
                continue
            suffix = PurePosixPath(entry.name).suffix.lower()
            if not entry.is_file:
                passed[entry.name] = Text("不是普通文件", "no regular file")
            elif suffix not in SUFFIXES:
                passed[entry.name] = Text(
                    f"不读取 {suffix} 类型的文件", f"files of the type {suffix} are not read"
                )
            else:
                files.append(entry)
        if len(files) > MAX_FILES:
            raise Misconfigured(
                Text(
                    f"文件夹里有 {len(files)} 个文件，上限 {MAX_FILES}",
                    f"the folder has {len(files)} files, the limit is {MAX_FILES}",
                ),
                hint=Text("请把已处理的文件移走", "move files away that were processed"),
            )
        # A flag that is older than its file belongs to the upload before.
        ready = [
            file
            for file in files
            if not flag or times.get(flag_of(flag, file.name), -1) >= file.time
        ]
        return cls(files, ready, passed)

    def whole(self, entries: Mapping[str, UploadEntry]) -> RemoteListing:
        """Return the listing with those files ready that an index names, of the size it says."""
        ready = [
            file
            for file in self.ready
            if file.name in entries and entries[file.name].size in (None, file.size)
        ]
        there = {file.name for file in self.files}
        missing = Text("索引中有，文件夹里没有", "the index names it, and it is not there")
        lost = {name: missing for name in entries if name not in there}
        return RemoteListing(self.files, ready, {**self.passed, **lost})
