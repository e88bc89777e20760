"""The tree of commands. Each body imports what it needs, so that ``--help`` stays fast."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer._click.exceptions import UsageError

from exchange.cli.output import Talk

USAGE = 64
"""Exit code for a command line that cannot be read (sysexits.h EX_USAGE)."""

_BOTH = "\x1f"


def application(lang: str, arguments: Sequence[str]) -> int:
    """Run one command line; returns its exit code."""
    command = typer.main.get_command(app)
    _speak(command, lang)
    try:
        code = command.main(list(arguments), prog_name="exchange", standalone_mode=False, obj=lang)
    except UsageError as error:
        error.show()
        return USAGE
    except typer.Abort:
        return 130
    return code if isinstance(code, int) else 0


def both(zh: str, en: str) -> str:
    """Join a help text's two languages; :func:`_speak` picks one when the command is known."""
    return f"{zh}{_BOTH}{en}"


def _speak(command: Any, lang: str) -> None:
    """Pick one language in the help of a command, its options and its subcommands."""
    for item in (command, *command.params):
        zh, found, en = (getattr(item, "help", None) or "").partition(_BOTH)
        if found:
            item.help = zh if lang == "zh" else en
    for sub in getattr(command, "commands", {}).values():
        _speak(sub, lang)


def talk(context: typer.Context, *, as_json: bool = False) -> Talk:
    """Make the voice of a command."""
    return Talk(context.obj, as_json=as_json)


def _group(name: str, zh: str, en: str) -> typer.Typer:
    sub = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    app.add_typer(sub, name=name, help=both(zh, en))
    return sub


Json = Annotated[bool, typer.Option("--json", help=both("以 JSON 输出", "answer as JSON"))]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=both(
        "地市节点：采集、校验、封签、级联、回执。\n\n"
        "每条命令都可加 --config 文件 与 --lang zh|en。\n\n"
        "退出码：0 成功 · 1 检查未通过 · 2 有待生效的变更 · 3 配置 · 4 连不上 · 5 无权限 · "
        "6 印章、回执或证据不成立 · 64 用法",
        "The prefecture node: pull, validate, seal, cascade, receipt.\n\n"
        "Every command takes --config FILE and --lang zh|en.\n\n"
        "Exit codes: 0 done · 1 a check failed · 2 changes pending · 3 configuration · "
        "4 cannot reach · 5 denied · 6 does not verify · 64 usage",
    ),
)

# --- first steps ---------------------------------------------------------------------


@app.command(
    help=both(
        "在临时节点上跑完整个流程：三个部门、真实区划、约 1% 脏数据、模拟省级平台",
        "run the whole job on a temporary node: three departments, dirty data, a province",
    )
)
def demo(
    context: typer.Context,
    *,
    folder: Annotated[
        Path | None,
        typer.Option(help=both("节点目录（默认临时目录）", "folder of the node (default: new)")),
    ] = None,
    scale: Annotated[float, typer.Option(min=0.01, max=100)] = 1.0,
    seed: Annotated[int, typer.Option(help=both("随机种子", "seed of the data"))] = 2026,
    as_json: Json = False,
) -> int:
    from exchange.cli.demo import demo as command

    return command(talk(context, as_json=as_json), folder=folder, scale=scale, seed=seed)


@app.command(help=both("新建节点目录（含测试印章与模拟省级平台）", "make a new node in a folder"))
def init(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help=both("新目录", "a new folder"))],
    *,
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8470,
    suite: Annotated[str, typer.Option(help="sm2-sm3 | ecdsa-p256-sha256")] = "sm2-sm3",
) -> int:
    from exchange.cli.node import init as command

    return command(talk(context), folder, port=port, suite=suite)


@app.command(
    help=both("检查本机、配置、印章、日志、存储、上级平台", "check everything a run needs")
)
def doctor(context: typer.Context, *, as_json: Json = False) -> int:
    from exchange.cli.doctor import doctor as command

    return command(talk(context, as_json=as_json))


# --- the job -------------------------------------------------------------------------


@app.command(
    help=both("运行：一次（--once）或按计划持续运行", "run once, or by schedule until stopped")
)
def run(
    context: typer.Context,
    sources: Annotated[
        list[str] | None, typer.Argument(help=both("数据源（默认全部）", "sources (default: all)"))
    ] = None,
    *,
    once: Annotated[bool, typer.Option("--once", help=both("只运行一次", "once"))] = False,
    only: Annotated[
        list[str] | None,
        typer.Option(
            help=both("只运行这一段，可多个：", "this room only, repeatable: ")
            + "pull|seal|cascade|evidence"
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=256,
            help=both(
                "启动并看护这么多个工作进程（多于一个需要 Kafka）",
                "start and look after so many processes (more than one needs Kafka)",
            ),
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            help=both("工作进程的名称前缀（默认主机名）", "prefix of their names (default: host)")
        ),
    ] = None,
    wait: Annotated[
        str,
        typer.Option(
            help=both(
                "启动时日志或存储连不上，等待这么久", "wait so long for log and store at start"
            )
        ),
    ] = "0s",
    drain: Annotated[
        str,
        typer.Option(
            help=both("停止时给工作进程的时间", "time that workers have to finish when stopped")
        ),
    ] = "60s",
    worker: Annotated[str, typer.Option(hidden=True)] = "",
    leash: Annotated[int | None, typer.Option(hidden=True)] = None,
    as_json: Json = False,
) -> int:
    from exchange.cli import run as commands

    voice = talk(context, as_json=as_json)
    rooms = commands.rooms(only or ())
    if workers is not None:
        if once or sources:
            raise UsageError("--workers: neither --once nor sources")
        return commands.crew(voice, rooms, workers, prefix=name, wait=wait, drain=drain)
    return commands.run(
        voice, sources or None, rooms, once=once, wait=wait, drain=drain, worker=worker, leash=leash
    )


@app.command(
    help=both(
        "把资源的合格记录逐条发布到 Kafka 主题，供外部程序读取（Confluent 格式）",
        "put accepted records on a topic, one by one, for programs outside (Confluent format)",
    )
)
def publish(
    context: typer.Context,
    resources: Annotated[list[str], typer.Argument(help=both("资源", "resources"))],
    *,
    once: Annotated[
        bool, typer.Option("--once", help=both("发布现有的记录后退出", "what is there, then exit"))
    ] = False,
    as_json: Json = False,
) -> int:
    from exchange.cli.publish import publish as command

    return command(talk(context, as_json=as_json), resources, once=once)


@app.command(
    help=both("各资源的数量、积压、停止原因", "what came in, went out, waits or is halted")
)
def status(context: typer.Context, *, as_json: Json = False) -> int:
    from exchange.cli.status import status as command

    return command(talk(context, as_json=as_json))


@app.command(help=both("让因超限而停止的资源继续", "let a resource that was halted go on"))
def release(context: typer.Context, resource: str) -> int:
    from exchange.cli.node import release as command

    return command(talk(context), resource)


@app.command(
    help=both("省级一侧：接收、验证、保存、答复回执", "the province's side: receive and receipt")
)
def gateway(context: typer.Context) -> int:
    from exchange.cli.node import gateway as command

    return command(talk(context))


@app.command(help=both("更新存储的表结构", "bring the store's schema up to date"))
def migrate(context: typer.Context) -> int:
    from exchange.cli.node import migrate as command

    return command(talk(context))


# --- catalog -------------------------------------------------------------------------

catalog = _group("catalog", "政务数据目录", "the catalog")


@catalog.command(help=both("检查目录文件", "check the catalog files"))
def check(
    context: typer.Context,
    file: Annotated[Path | None, typer.Argument(help="catalog.yaml")] = None,
    *,
    as_json: Json = False,
) -> int:
    from exchange.cli.catalog import check as command

    return command(talk(context, as_json=as_json), file)


@catalog.command(help=both("与已生效目录比较（有变更时退出码 2）", "compare with what is applied"))
def plan(context: typer.Context, *, as_json: Json = False) -> int:
    from exchange.cli.catalog import plan as command

    return command(talk(context, as_json=as_json))


@catalog.command(help=both("使目录生效并生成 Avro 模式", "apply the catalog, write Avro schemas"))
def apply(
    context: typer.Context,
    *,
    allow_breaking: Annotated[
        bool, typer.Option("--allow-breaking", help=both("同意破坏性变更", "consent"))
    ] = False,
    as_json: Json = False,
) -> int:
    from exchange.cli.catalog import apply as command

    return command(talk(context, as_json=as_json), allow_breaking=allow_breaking)


@catalog.command(help=both("说明一个资源或数据项的要求", "say what a resource or field requires"))
def explain(
    context: typer.Context,
    subject: Annotated[str, typer.Argument(help="resource | resource.field")],
    *,
    as_json: Json = False,
) -> int:
    from exchange.cli.catalog import explain as command

    return command(talk(context, as_json=as_json), subject)


# --- connectors ----------------------------------------------------------------------

connector = _group("connector", "连接器与数据源", "connectors and sources")


@connector.command("list", help=both("列出连接器及其配置项", "list connectors and their settings"))
def connector_list(context: typer.Context, *, as_json: Json = False) -> int:
    from exchange.cli.connector import listing as command

    return command(talk(context, as_json=as_json))


@connector.command("check", help=both("试连一个数据源", "try a source"))
def connector_check(context: typer.Context, source: str, *, as_json: Json = False) -> int:
    from exchange.cli.connector import check as command

    return command(talk(context, as_json=as_json), source)


@connector.command(
    "preview", help=both("看数据源的前几条（脱敏）", "first rows of a source, masked")
)
def connector_preview(
    context: typer.Context,
    source: str,
    *,
    rows: Annotated[int, typer.Option(min=1, max=1000)] = 5,
    as_json: Json = False,
) -> int:
    from exchange.cli.connector import preview as command

    return command(talk(context, as_json=as_json), source, rows)


# --- quarantine ----------------------------------------------------------------------

quarantine = _group("quarantine", "隔离区：被拒收的记录", "quarantine: refused records")


@quarantine.command("list", help=both("列出隔离的记录（按批）", "list what is in quarantine"))
def quarantine_list(
    context: typer.Context,
    resource: Annotated[str | None, typer.Argument()] = None,
    *,
    as_json: Json = False,
) -> int:
    from exchange.cli.quarantine import listing as command

    return command(talk(context, as_json=as_json), resource)


@quarantine.command(help=both("查看一批及每条的全部原因（脱敏）", "show records and every reason"))
def show(
    context: typer.Context,
    address: Annotated[str, typer.Argument(help="resource/partition/offset")],
    *,
    rows: Annotated[int, typer.Option(min=1, max=8192)] = 20,
    as_json: Json = False,
) -> int:
    from exchange.cli.quarantine import show as command

    return command(talk(context, as_json=as_json), address, rows)


@quarantine.command(
    help=both("导出 Excel 交给部门修改（脱敏）", "export to Excel for the department")
)
def export(
    context: typer.Context,
    resource: str,
    *,
    to: Annotated[Path, typer.Option(help=both("文件 .xlsx", "file .xlsx"))],
    as_json: Json = False,
) -> int:
    from exchange.cli.quarantine import export as command

    return command(talk(context, as_json=as_json), resource, to)


@quarantine.command(help=both("重新送检（可带改正后的 Excel/CSV）", "send records through again"))
def replay(
    context: typer.Context,
    resource: str,
    *,
    file: Annotated[
        Path | None, typer.Option(help=both("改正后的文件", "corrected file from export"))
    ] = None,
    as_json: Json = False,
) -> int:
    from exchange.cli.quarantine import replay as command

    return command(talk(context, as_json=as_json), resource, file)


# --- cascade -------------------------------------------------------------------------

cascade = _group("cascade", "级联：向上级投递", "cascade: deliveries to the province")


@cascade.command("list", help=both("列出批次及投递状态", "list batches and their state"))
def cascade_list(
    context: typer.Context,
    resource: Annotated[str | None, typer.Argument()] = None,
    *,
    state: Annotated[
        str | None,
        typer.Option(help="pending|sending|checking|waiting|receipted|refused|halted"),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000)] = 50,
    as_json: Json = False,
) -> int:
    from exchange.cli.cascade import listing as command

    return command(talk(context, as_json=as_json), resource, state, limit)


@cascade.command(help=both("把退回或停止的批次重新投递", "deliver a refused or halted batch again"))
def retry(
    context: typer.Context,
    resource: str,
    batch: Annotated[str | None, typer.Argument(help=both("批次号", "batch number"))] = None,
    *,
    as_json: Json = False,
) -> int:
    from exchange.cli.cascade import retry as command

    return command(talk(context, as_json=as_json), resource, batch)


@cascade.command("export", help=both("导出封签批次及其回执为文件", "write batch and receipt files"))
def cascade_export(
    context: typer.Context,
    resource: str,
    batch: Annotated[str, typer.Argument(help=both("批次号", "batch number"))],
    *,
    to: Annotated[Path, typer.Option(help=both("目录", "folder"))] = Path(),
    as_json: Json = False,
) -> int:
    from exchange.cli.cascade import export as command

    return command(talk(context, as_json=as_json), resource, batch, to)


# --- seals ---------------------------------------------------------------------------

evidence = _group(
    "evidence", "存证日志：审计、检查点、存证包", "the evidence log: audit, checkpoints, packages"
)


@evidence.command("audit", help=both("完整审计存证日志", "check the whole evidence log"))
def evidence_audit(
    context: typer.Context,
    folder: Annotated[
        Path | None,
        typer.Argument(help=both("日志目录（默认本节点的）", "its folder (default: this node's)")),
    ] = None,
    *,
    known: Annotated[
        list[Path] | None,
        typer.Option(
            help=both(
                "手中已有的检查点或回执，可多个", "checkpoint or receipt you have, repeatable"
            )
        ),
    ] = None,
    as_json: Json = False,
) -> int:
    from exchange.cli.evidence_log import audit as command

    return command(talk(context, as_json=as_json), folder, known or [])


@evidence.command("checkpoint", help=both("最新的检查点", "the newest checkpoint"))
def evidence_checkpoint(
    context: typer.Context,
    *,
    to: Annotated[Path | None, typer.Option(help=both("写入该文件", "write it here"))] = None,
    as_json: Json = False,
) -> int:
    from exchange.cli.evidence_log import checkpoint as command

    return command(talk(context, as_json=as_json), to)


@evidence.command(
    "prove", help=both("证明日志只增不改", "prove that the log grew and nothing changed")
)
def evidence_prove(
    context: typer.Context,
    *,
    old: Annotated[int, typer.Option("--from", help=both("先前的条数", "entries before"))],
    new: Annotated[
        int | None, typer.Option("--to", help=both("之后的条数", "entries after (default: now)"))
    ] = None,
    as_json: Json = False,
) -> int:
    from exchange.cli.evidence_log import prove as command

    return command(talk(context, as_json=as_json), old, new)


@evidence.command("export", help=both("一条记录的存证包", "the evidence package of one record"))
def evidence_export(
    context: typer.Context,
    resource: Annotated[str, typer.Argument(help=both("资源", "resource"))],
    batch: Annotated[str, typer.Argument(help=both("批次号", "batch number"))],
    *,
    key: Annotated[
        list[str] | None, typer.Option(help=both("字段=值，可多个", "FIELD=VALUE, repeatable"))
    ] = None,
    row: Annotated[int | None, typer.Option(min=1, help=both("序号", "number of the row"))] = None,
    to: Annotated[Path, typer.Option(help=both("写入该文件", "write it here"))],
    as_json: Json = False,
) -> int:
    from exchange.cli.evidence_log import export as command

    return command(talk(context, as_json=as_json), (resource, batch), key or [], row, to)


seal = _group("seal", "电子印章：台账、试点印章、换钥", "electronic seals and their register")

SealName = Annotated[
    str, typer.Argument(metavar="NAME", help=both("部门或印章标识", "department, or its number"))
]
Reason = Annotated[str, typer.Option(help=both("理由，记入审计", "why; kept in the audit trail"))]
Password = Annotated[
    str, typer.Option(help=both("口令的引用 env: 或 file:", "its reference, env: or file:"))
]
Years = Annotated[int, typer.Option(min=1, max=10, help=both("有效年数", "years of validity"))]


@seal.command("list", help=both("列出印章及其状态", "list the seals and their state"))
def seal_list(context: typer.Context, *, as_json: Json = False) -> int:
    from exchange.cli.seal import listing as command

    return command(talk(context, as_json=as_json))


@seal.command("show", help=both("查看一枚印章及其经历", "show a seal and what was done with it"))
def seal_show(
    context: typer.Context,
    name: SealName,
    *,
    picture: Annotated[
        Path | None, typer.Option(help=both("把图像写入该文件", "write its picture to this file"))
    ] = None,
    as_json: Json = False,
) -> int:
    from exchange.cli.seal import show as command

    return command(talk(context, as_json=as_json), name, picture)


@seal.command("request", help=both("登记印章申请", "note that a department asks for a seal"))
def seal_request(
    context: typer.Context,
    name: SealName,
    *,
    number: Annotated[str, typer.Option(help=both("申请号", "number of the request"))] = "",
    reason: Reason = "",
    as_json: Json = False,
) -> int:
    from exchange.cli.seal import request as command

    return command(talk(context, as_json=as_json), name, reason, number)


@seal.command(
    "make", help=both("制作测试、试点印章（软件密钥）", "make a seal for tests and pilots")
)
def seal_make(
    context: typer.Context,
    name: SealName,
    *,
    title: Annotated[
        str, typer.Option("--name", help=both("印章名称（默认部门名称）", "the seal's own name"))
    ] = "",
    suite: Annotated[str, typer.Option(help="sm2-sm3 | ecdsa-p256-sha256")] = "sm2-sm3",
    version: Annotated[
        int, typer.Option(min=4, max=5, help="4 GB/T 38540-2020 | 5 GM/T 0031-2025")
    ] = 4,
    years: Years = 5,
    folder: Annotated[
        Path | None, typer.Option(help=both("新目录", "a new folder (default: seals/NAME)"))
    ] = None,
    password: Password = "",
    as_json: Json = False,
) -> int:
    from exchange.cli.seal import make as command

    return command(
        talk(context, as_json=as_json),
        name,
        title=title,
        suite_id=suite,
        version=version,
        years=years,
        folder=folder,
        password=password,
    )


@seal.command("file", help=both("登记备案号", "note that a seal is filed"))
def seal_file(
    context: typer.Context,
    name: SealName,
    *,
    number: Annotated[str, typer.Option(help=both("备案号", "number of the filing"))],
    approval: Annotated[str, typer.Option(help=both("审批号", "number of the approval"))] = "",
    police_code: Annotated[
        str, typer.Option(help=both("公安备案编码", "code of the public security"))
    ] = "",
    as_json: Json = False,
) -> int:
    from exchange.cli.seal import file as command

    return command(talk(context, as_json=as_json), name, number, approval, police_code)


@seal.command("use", help=both("启用已备案的印章", "put a filed seal in use"))
def seal_use(
    context: typer.Context, name: SealName, *, reason: Reason = "", as_json: Json = False
) -> int:
    from exchange.cli.seal import step as command

    return command(talk(context, as_json=as_json), name, "use", reason)


@seal.command("suspend", help=both("停用：不再盖章，直到恢复", "let it seal nothing until resumed"))
def seal_suspend(
    context: typer.Context,
    name: SealName,
    *,
    reason: Reason,
    lost: Annotated[bool, typer.Option("--lost", help=both("挂失", "it is lost"))] = False,
    as_json: Json = False,
) -> int:
    from exchange.cli.seal import step as command

    return command(talk(context, as_json=as_json), name, "lose" if lost else "suspend", reason)


@seal.command("resume", help=both("恢复使用", "let a suspended seal seal again"))
def seal_resume(
    context: typer.Context, name: SealName, *, reason: Reason = "", as_json: Json = False
) -> int:
    from exchange.cli.seal import step as command

    return command(talk(context, as_json=as_json), name, "resume", reason)


@seal.command("cancel", help=both("注销：永远不再盖章", "cancel it for good"))
def seal_cancel(
    context: typer.Context, name: SealName, *, reason: Reason, as_json: Json = False
) -> int:
    from exchange.cli.seal import step as command

    return command(talk(context, as_json=as_json), name, "cancel", reason)


@seal.command("rotate", help=both("换钥：新密钥到时接替", "let a new key take over"))
def seal_rotate(
    context: typer.Context,
    name: SealName,
    *,
    at: Annotated[str, typer.Option(help=both("接替时间（默认即刻）", "when (default: now)"))] = "",
    given: Annotated[
        Path | None,
        typer.Option("--with", help=both("制章机构换发的目录", "folder that the maker delivered")),
    ] = None,
    key: Annotated[str, typer.Option(help=both("新密钥的地址", "address of its key"))] = "",
    password: Password = "",
    years: Years = 5,
    as_json: Json = False,
) -> int:
    from exchange.cli.seal import rotate as command

    return command(
        talk(context, as_json=as_json),
        name,
        at=at,
        given=given,
        address=key,
        password=password,
        years=years,
    )


@seal.command("export", help=both("导出电子印章台账（CSV）", "write the register as CSV"))
def seal_export(
    context: typer.Context,
    *,
    to: Annotated[Path, typer.Option(help=both("文件 .csv", "file .csv"))],
    as_json: Json = False,
) -> int:
    from exchange.cli.seal import export as command

    return command(talk(context, as_json=as_json), to)


# --- evidence ------------------------------------------------------------------------

# These two have their command lines in exchange.cli.evidence, which runs without typer.

_OWN_COMMAND_LINE = {
    "allow_extra_args": True,
    "ignore_unknown_options": True,
    "help_option_names": [],
}


@app.command(
    context_settings=_OWN_COMMAND_LINE,
    help=both(
        "离线验证批次、回执、证明、存证包、检查点、印章", "verify any file of evidence; offline"
    ),
)
def verify(context: typer.Context) -> int:
    from exchange.cli.evidence import run as command

    return command(talk(context, as_json="--json" in context.args), ["verify", *context.args])


@app.command(
    context_settings=_OWN_COMMAND_LINE,
    help=both("从批次中取出一条记录的证明", "prove one record of a batch"),
)
def prove(context: typer.Context) -> int:
    from exchange.cli.evidence import run as command

    return command(talk(context), ["prove", *context.args])


# --- bench ---------------------------------------------------------------------------


@app.command(help=both("测量本机速度与内存", "measure speed and memory on this machine"))
def bench(
    context: typer.Context,
    *,
    rows: Annotated[int, typer.Option(min=1000)] = 200_000,
    full: Annotated[bool, typer.Option("--full", help=both("全部项目", "the full set"))] = False,
    as_json: Json = False,
) -> int:
    from exchange.cli.bench import bench as command

    return command(talk(context, as_json=as_json), rows=rows, full=full)


@app.command(help=both("版本", "version"))
def version() -> int:
    from exchange import __version__

    sys.stdout.write(f"exchange {__version__}\n")
    return 0
