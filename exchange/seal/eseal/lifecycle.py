"""The life of an electronic seal (电子印章管理办法): request, make, file, use, stop, cancel.

::

    request 申请 ─► make 制作 ─► file 备案 ─► use 启用 ─► [in use 在用]
    [in use] ─► suspend 停用 / lose 挂失 ─► resume 恢复 ─► [in use]
    any of them ─► cancel 注销, which is the end

A pure machine in one table: state and step in, state out. Only a seal in use seals; what it
sealed before stays valid by its time. Who did a step, when and why is kept by the store.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from exchange.errors import Denied, Rejected
from exchange.text import Text


class SealState(StrEnum):
    """Where a seal stands."""

    REQUESTED = "requested"
    MADE = "made"
    FILED = "filed"
    IN_USE = "in_use"
    SUSPENDED = "suspended"
    LOST = "lost"
    CANCELLED = "cancelled"


class Step(StrEnum):
    """What a person does with a seal."""

    REQUEST = "request"
    ADOPT = "adopt"
    """Take a seal that the settings name already into the register, as in use."""
    MAKE = "make"
    FILE = "file"
    USE = "use"
    ROTATE = "rotate"
    SUSPEND = "suspend"
    LOSE = "lose"
    RESUME = "resume"
    CANCEL = "cancel"


TRANSITIONS: Final[Mapping[tuple[SealState | None, Step], SealState]] = MappingProxyType(
    {
        (None, Step.REQUEST): SealState.REQUESTED,
        (None, Step.ADOPT): SealState.IN_USE,
        (SealState.REQUESTED, Step.MAKE): SealState.MADE,
        (SealState.REQUESTED, Step.CANCEL): SealState.CANCELLED,
        (SealState.MADE, Step.FILE): SealState.FILED,
        (SealState.MADE, Step.CANCEL): SealState.CANCELLED,
        (SealState.FILED, Step.USE): SealState.IN_USE,
        (SealState.FILED, Step.CANCEL): SealState.CANCELLED,
        (SealState.IN_USE, Step.FILE): SealState.IN_USE,
        (SealState.IN_USE, Step.ROTATE): SealState.IN_USE,
        (SealState.IN_USE, Step.SUSPEND): SealState.SUSPENDED,
        (SealState.IN_USE, Step.LOSE): SealState.LOST,
        (SealState.IN_USE, Step.CANCEL): SealState.CANCELLED,
        (SealState.SUSPENDED, Step.RESUME): SealState.IN_USE,
        (SealState.SUSPENDED, Step.LOSE): SealState.LOST,
        (SealState.SUSPENDED, Step.CANCEL): SealState.CANCELLED,
        (SealState.LOST, Step.RESUME): SealState.IN_USE,
        (SealState.LOST, Step.CANCEL): SealState.CANCELLED,
    }
)
"""Every step that there is; None is a seal that the register does not know."""

REASONED: Final = frozenset({Step.SUSPEND, Step.LOSE, Step.CANCEL})
"""Steps that need a reason."""

TITLES: Final[Mapping[SealState | None, Text]] = MappingProxyType(
    {
        None: Text("未登记", "not registered"),
        SealState.REQUESTED: Text("已申请", "requested"),
        SealState.MADE: Text("已制作，待备案", "made, to be filed"),
        SealState.FILED: Text("已备案，未启用", "filed, not in use yet"),
        SealState.IN_USE: Text("在用", "in use"),
        SealState.SUSPENDED: Text("停用", "suspended"),
        SealState.LOST: Text("挂失", "lost"),
        SealState.CANCELLED: Text("注销", "cancelled"),
    }
)

FOLLOWING: Final[Mapping[SealState, Step]] = MappingProxyType(
    {
        SealState.SUSPENDED: Step.RESUME,
        SealState.LOST: Step.RESUME,
        SealState.FILED: Step.USE,
        SealState.MADE: Step.FILE,
        SealState.REQUESTED: Step.MAKE,
    }
)
"""The step that leads a seal that may not seal towards its use; a cancelled one has none."""

LEDGER: Final[Mapping[SealState, str]] = MappingProxyType(
    {
        SealState.MADE: "0",
        SealState.FILED: "2",
        SealState.IN_USE: "1",
        SealState.SUSPENDED: "2",
        SealState.LOST: "3",
        SealState.CANCELLED: "4",
    }
)
"""The code of a state in the shared register (印章状态); a filed seal is not in use yet (停用)."""


def move(state: SealState | None, step: Step, name: str) -> SealState:
    """Take one step with the seal of ``name``; raises Rejected naming the steps there are."""
    after = TRANSITIONS.get((state, step))
    if after is None:
        possible = ", ".join(one for there, one in TRANSITIONS if there == state) or "-"
        now = TITLES[state]
        raise Rejected(
            Text(
                f"印章 {name} 当前“{now.zh}”，不能 {step}",
                f"the seal of {name} is {now.en}: no step {step}",
            ),
            hint=Text(f"现在可以：{possible}", f"possible now: {possible}"),
        )
    return after


def admit(state: SealState | None, name: str) -> None:
    """Let a seal in use pass, and one that nobody registered; raises Denied for others."""
    if state in {None, SealState.IN_USE}:
        return
    title = TITLES[state]
    following = FOLLOWING.get(state or SealState.CANCELLED)
    if following is None:
        hint = Text(
            f"请为 {name} 申请新印章（试点用 exchange seal make）；数据未丢失，换上新印章后继续",
            f"request a new seal for {name} (of a pilot, `exchange seal make` makes it); nothing is"
            " lost, it goes on with the new one",
        )
    else:
        hint = Text(
            f"数据未丢失；exchange seal {following} {name} 后自动继续",
            f"nothing is lost; it goes on after `exchange seal {following} {name}`",
        )
    raise Denied(
        Text(
            f"印章 {name} 的状态是“{title.zh}”，不得盖章",
            f"the seal of {name} is {title.en}: it must not seal",
        ),
        hint=hint,
    )
