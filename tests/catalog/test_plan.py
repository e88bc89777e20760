"""Plan and apply: every change is seen and judged, and nothing half-applied survives."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from exchange.catalog.avro import fingerprint, schema_text
from exchange.catalog.loader import loads
from exchange.catalog.model import Catalog
from exchange.catalog.plan import APPLIED, apply, plan, read_applied
from exchange.errors import Integrity, Rejected, Transient
from tests.catalog.conftest import ROOT, SMALL

# kind of change: what is replaced by what; whether it breaks
BREAKING = {
    "type_narrowed": ("type", "note: 备注 text(200)", "note: 备注 text(100)"),
    "type_changed": ("type", "次数 integer", "次数 text(9)"),
    "precision_changed": ("type", "decimal(16,6)", "decimal(18,6)"),
    "scale_changed": ("type", "decimal(16,6)", "decimal(16,4)"),
    "pattern_changed": ("type", "digits(10)", "digits(12)"),
    "check_added": ("type", "note: 备注 text(200)", "note: 备注 uscc"),
    "masking": ("masking", "note: 备注 text(200)", "note: 备注 address(200) S2"),
    "masking_off": ("masking", "姓名 person(50)!", "姓名 text(50)! S3"),
    "required": ("required", "出生日期 date", "出生日期 date!"),
    "optional": ("required", "类别 text(8)!", "类别 text(8)"),
    "required_when": ("required_when", "when $kind = '个人'", "when $kind = '自然人'"),
    "required_when_gone": ("required_when", " when $kind = '个人'", ""),
    "sensitivity_raised": ("sensitivity", "code(sex) S3", "code(sex) S4"),
    "field_removed": ("field_removed", ", ok: 是否 boolean", ""),
    "required_field_added": ("field_added", "ok: 是否", "new: 新增 date!, ok: 是否"),
    "code_removed": ("code_removed", ", 9: 未说明", ""),
    "code_meaning": ("code_meaning", "9: 未说明", "9: 其他"),
    "edition": ("table_edition", '"2003"', '"2026"'),
    "cycle_slower": ("update_cycle", "cycle: daily", "cycle: weekly"),
    "share_tightened": ("share_type", "share: 1", "share: 2\n    condition: 仅限核验"),
    "key": ("key", "key: [code]", "key: [a_name]"),
    "unique_added": ("unique", "[[a_name, a_kind]]", "[[a_name, a_kind], [note]]"),
    "rule_added": (
        "rule_added",
        "      born:",
        "      once: count > 0 | 次数应为正 | positive\n      born:",
    ),
    "rule_condition": ("rule_condition", "born <= today", "born < today"),
    "resource_code": ("resource_code", "307001/1", "307001/2"),
    "department_code": ("department_code", "11232700MB1C531139", "11232700001652019A"),
    "area": ("area", "code: 232700", "code: 232701"),
}
COMPATIBLE = {
    "type_widened": ("type", "note: 备注 text(200)", "note: 备注 text(300)"),
    "field_title": ("field_title", "出生日期 date", "生日 date"),
    "field_doc": ("field_doc", " -- 可空", " -- 可以为空"),
    "field_added": ("field_added", "ok: 是否", "new: 新增 date, ok: 是否"),
    "field_order": (
        "field_order",
        "count: 次数 integer, ok: 是否 boolean",
        "ok: 是否 boolean, count: 次数 integer",
    ),
    "sensitivity_lowered": ("sensitivity", "code(sex) S3", "code(sex) S2"),
    "code_added": ("code_added", "9: 未说明", "9: 未说明, 8: 其他"),
    "table_title": ("table_title", "title: 性别", "title: 人的性别"),
    "cycle_faster": ("update_cycle", "cycle: daily", "cycle: realtime"),
    "unique_removed": ("unique", "    unique: [[a_name, a_kind]]\n", ""),
    "rule_removed": (
        "rule_removed",
        "      id_length: LENGTH($id_no) > 5 | 证件号码过短 | the number is too short",
        "      {}",
    ),
    "rule_message": ("rule_message", "出生日期在将来", "出生日期晚于今天"),
    "rule_message_en": ("rule_message_en", "born in the future", "not yet born"),
    "resource_title": ("resource_title", "title: 人员", "title: 人员名单"),
    "abstract": ("abstract", "title: 人员", "title: 人员\n    abstract: 摘要"),
    "limits": ("limits", "max_count: 100", "max_count: 200"),
    "columns": ("columns", "    columns: {编号: code}\n", ""),
    "version": ("version", "share: 1", "share: 1\n    version: 2"),
    "department_name": ("department_name", "name: 营商环境建设监督局", "name: 营商局"),
    "catalog_version": ("catalog_version", 'version: "1"', 'version: "2"'),
}


def changed(old: str, new: str) -> Catalog:
    assert old in SMALL
    return loads(SMALL.replace(old, new, 1))


@pytest.mark.parametrize("name", BREAKING)
def test_a_breaking_change_is_called_so(name: str) -> None:
    kind, old, new = BREAKING[name]
    result = plan(loads(SMALL), changed(old, new))
    change = next(c for c in result.changes if c.kind == kind)
    assert change.breaking
    assert result.breaking
    assert "：" in change.text.zh, "says why"


@pytest.mark.parametrize("name", COMPATIBLE)
def test_a_compatible_change_is_called_so(name: str) -> None:
    kind, old, new = COMPATIBLE[name]
    result = plan(loads(SMALL), changed(old, new))
    assert [c.kind for c in result.changes] == [kind]
    assert not result.breaking


def test_the_way_back_is_seen_too() -> None:
    for kind, old, new in (*BREAKING.values(), *COMPATIBLE.values()):
        assert plan(changed(old, new), loads(SMALL)).changes, kind


def test_a_relaxed_share_type_and_an_older_version_are_judged() -> None:
    tight = changed("share: 1", "share: 2\n    version: 2\n    condition: 仅限核验")
    values = {c.kind: c.breaking for c in plan(tight, loads(SMALL)).changes}
    assert values == {"version": True, "share_type": False, "share_condition": False}


def test_no_change_is_an_empty_plan(example: Catalog) -> None:
    assert plan(example, example).empty
    assert plan(example, example).as_dict() == {
        "empty": True,
        "breaking": False,
        "changes": [],
        "needs_version": [],
    }


def test_the_first_plan_adds_everything(example: Catalog) -> None:
    first = plan(None, example)
    assert not first.breaking
    assert {c.kind for c in first.changes} == {"department_added", "table_added", "resource_added"}


def test_resources_departments_and_tables_that_go(example: Catalog) -> None:
    values = {c.where: c.breaking for c in plan(example, loads(SMALL)).changes}
    assert values["credit_license"] is True
    assert values["departments.market"] is False
    assert values["tables.seal_kind"] is False


def test_rules_in_another_order() -> None:
    lines = SMALL.rstrip("\n").split("\n")
    other = "      more: count > 0 | 次数 | count"
    first, second = (
        "\n".join([*lines[:-1], *tail]) for tail in ([lines[-1], other], [other, lines[-1]])
    )
    assert [c.kind for c in plan(loads(first), loads(second)).changes] == ["rule_order"]


class TestApply:
    @pytest.fixture
    def run(self, tmp_path: Path) -> Callable[..., object]:
        def run(catalog: Catalog, *, allow_breaking: bool = False) -> object:
            return apply(
                catalog,
                state_dir=tmp_path / "state",
                schemas_dir=tmp_path / "schemas",
                allow_breaking=allow_breaking,
            )

        return run

    def test_the_applied_catalog_comes_back_whole(
        self, run: Callable[..., object], tmp_path: Path, example: Catalog
    ) -> None:
        assert read_applied(tmp_path / "state") is None
        run(example)
        assert read_applied(tmp_path / "state") == example
        assert len(list((tmp_path / "schemas").glob("*.avsc"))) == 6
        assert not list((tmp_path / "state").glob(".*"))

    def test_a_breaking_change_needs_consent(
        self, run: Callable[..., object], tmp_path: Path
    ) -> None:
        run(loads(SMALL))
        slower = changed("cycle: daily", "cycle: weekly")
        with pytest.raises(Rejected, match="1 breaking changes: people update cycle"):
            run(slower)
        assert read_applied(tmp_path / "state") == loads(SMALL)
        run(slower, allow_breaking=True)
        assert read_applied(tmp_path / "state") == slower

    def test_a_changed_schema_needs_the_next_version(
        self, run: Callable[..., object], tmp_path: Path
    ) -> None:
        run(loads(SMALL))
        more = "ok: 是否", "new: 新增 date, ok: 是否"
        with pytest.raises(Rejected, match="people: version: 2"):
            run(changed(*more))
        (tmp_path / "schemas" / "people-v1.avsc").unlink()
        with pytest.raises(Rejected, match="people: version: 2"):
            run(changed(*more))
        run(loads(SMALL.replace(*more).replace("share: 1", "share: 1\n    version: 2")))
        assert (tmp_path / "schemas" / "people-v2.avsc").exists()

    @pytest.mark.parametrize("text", ["{}", "not json"])
    def test_a_released_schema_is_never_edited(
        self, run: Callable[..., object], tmp_path: Path, text: str
    ) -> None:
        (tmp_path / "schemas").mkdir()
        (tmp_path / "schemas" / "people-v1.avsc").write_text(text)
        with pytest.raises(Rejected, match="released version"):
            run(loads(SMALL), allow_breaking=True)
        assert (tmp_path / "schemas" / "people-v1.avsc").read_text() == text
        assert read_applied(tmp_path / "state") is None

    def test_applying_again_completes_what_a_crash_left(
        self, run: Callable[..., object], tmp_path: Path
    ) -> None:
        run(loads(SMALL))
        (tmp_path / "state" / APPLIED).unlink()
        run(loads(SMALL))
        assert read_applied(tmp_path / "state") == loads(SMALL)

    @pytest.mark.parametrize("edit", [lambda s: s[:-40], lambda s: s.replace("人员", "人")])
    def test_an_altered_state_is_an_integrity_error(
        self, run: Callable[..., object], tmp_path: Path, edit: Callable[[str], str]
    ) -> None:
        run(loads(SMALL))
        path = tmp_path / "state" / APPLIED
        path.write_text(edit(path.read_text("utf-8")), "utf-8")
        with pytest.raises(Integrity, match="was altered"):
            run(loads(SMALL))

    def test_a_folder_that_cannot_be_used(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(Transient, match="cannot use"):
            apply(loads(SMALL), state_dir=tmp_path / "file", schemas_dir=tmp_path / "schemas")
        with pytest.raises(Transient, match="cannot use"):
            apply(loads(SMALL), state_dir=tmp_path / "state", schemas_dir=tmp_path / "file")


def test_the_committed_schemas_are_those_of_the_example(example: Catalog) -> None:
    for resource in example.resources.values():
        path = ROOT / "schemas" / f"{resource.name}-v{resource.version}.avsc"
        document = json.loads(path.read_text("utf-8"))
        text = json.dumps(document, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
        assert text == schema_text(resource)
        assert fingerprint(resource).startswith("sm3:")
