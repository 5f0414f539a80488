"""What a push sets off: the workflows, the container, the hooks and the templates call only what exists; the address.

Nothing here runs a workflow. A check takes a parsed file and returns what is wrong with it, and is shown spoiled ones.
"""

import copy
import fnmatch
import json
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
FORMS = sorted(path for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PYTHONS = [f"3.{minor}" for minor in range(8, 30) if f"3.{minor}" in SpecifierSet(PROJECT["requires-python"])]
# What a job may be allowed beyond reading: to deploy pages and to prove to the index who it is.
ALLOWED = {"deploy": {"pages": "write", "id-token": "write"}, "publish": {"id-token": "write"}}
PINNED = re.compile(r"[\w-]+/[\w-]+@(v\d+|release/v\d+|[0-9a-f]{40})")


def read(path):
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


def tracked():
    """Files of the repository, with those that git would take next."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    return [name for name in names if name and (ROOT / name).is_file()]


def targets():
    """What `make` knows by name."""
    lines = (ROOT / "Makefile").read_text(encoding="utf-8").splitlines()
    heads = [line.partition(":")[0] for line in lines if re.match(r"[\w./$()-]+( [\w./$()-]+)*:(?!=)", line)]
    return {name for head in heads for name in head.split()}


def commands(script):
    """The commands of a step or a hook, each as its words, without variables set before them."""
    lines = script.replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.strip() and not line.startswith("#")]


def check_commands(script):
    """What these commands name that does not exist."""
    problems = []
    for words in commands(script):
        program, *rest = words
        if program == "make":
            problems += [f"make has no {name}" for name in rest if "=" not in name and name not in targets()]
        if Path(program).name == "python" and rest and rest[0].endswith(".py") and not (ROOT / rest[0]).is_file():
            problems.append(f"there is no {rest[0]}")
        if Path(program).name in ("python", "pytest", "jb"):
            files = [word for word in rest if re.fullmatch(r"[\w/]+\.(py|md|ya?ml)", word)]
            problems += [f"there is no {name}" for name in files if not (ROOT / name).is_file()]
        if program == "docker" and rest[0] == "build" and not (ROOT / rest[-1] / "Dockerfile").is_file():
            problems.append("there is no Dockerfile")
    return sorted(set(problems))


def check_step(step):
    problems = check_commands(step.get("run", ""))
    problems += ["an expression in a script: pass it by env"] if "${{" in step.get("run", "") else []
    uses, given = step.get("uses"), step.get("with", {})
    problems += [f"{uses} is not pinned"] if uses and not PINNED.fullmatch(uses) else []
    if str(uses).startswith("actions/checkout@") and given.get("persist-credentials") is not False:
        problems.append("the checkout keeps its token")
    lock = given.get("cache-dependency-path")
    problems += [f"there is no {lock}"] if lock and not (ROOT / lock).is_file() else []
    python = given.get("python-version", PYTHONS[0])
    problems += [f"Python {python}?"] if "matrix" not in str(python) and python not in PYTHONS else []
    return problems


def check_workflow(workflow):
    problems = [] if workflow.get("permissions") == {"contents": "read"} else ["rights for all jobs"]
    problems += [] if "group" in workflow.get("concurrency", {}) else ["no concurrency group"]
    for name, job in workflow["jobs"].items():
        problems += [] if 0 < job.get("timeout-minutes", 0) <= 120 else [f"{name} has no time limit"]
        problems += [] if job.get("permissions", {}) == ALLOWED.get(name, {}) else [f"rights of {name}"]
        problems += [f"{name} needs {job['needs']}"] if job.get("needs", name) not in workflow["jobs"] else []
        problems += [f"{name} has no environment"] if name in ALLOWED and "environment" not in job else []
        matrix = job.get("strategy", {}).get("matrix", {}).get("python", PYTHONS)
        problems += [] if matrix == PYTHONS else [f"{name} runs on {matrix}"]
        problems += [problem for step in job["steps"] for problem in check_step(step)]
    return problems


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_calls_what_exists_with_few_rights(path):
    assert check_workflow(read(path)) == []


def test_the_workflows_start_when_they_should():
    starts = {path.stem: read(path)[True] for path in WORKFLOWS}  # YAML 1.1 reads the key `on` as a truth
    assert {name: set(on) - {"workflow_dispatch"} for name, on in starts.items()} == {
        "tests": {"push", "pull_request"}, "book": {"push"}, "weekly": {"schedule"}, "release": {"push"},
    }  # fmt: skip
    branch = read("_config.yml")["repository"]["branch"]
    assert starts["tests"]["push"]["branches"] == starts["book"]["push"]["branches"] == [branch]
    assert f"refs/heads/{branch}" in read(".github/workflows/book.yml")["jobs"]["deploy"]["if"]
    (tag,) = starts["release"]["push"]["tags"]
    assert fnmatch.fnmatch(f"v{PROJECT['version']}", tag.replace("+", "*"))


def test_the_release_refuses_a_tag_that_is_not_the_version():
    steps = read(".github/workflows/release.yml")["jobs"]["build"]["steps"]
    (script,) = (step["run"] for step in steps if "version" in step.get("run", ""))
    (guard,) = (line for line in script.splitlines() if line.startswith("grep"))
    codes = {}
    for tag in (f"v{PROJECT['version']}", "v9.9.9", "v"):
        done = subprocess.run(["bash", "-ec", guard], cwd=ROOT, env={"GITHUB_REF_NAME": tag}, capture_output=True)
        codes[tag] = done.returncode
    assert list(codes.values()) == [0, 1, 1]


def spoil(change):
    workflow = copy.deepcopy(read(".github/workflows/book.yml"))
    change(workflow, workflow["jobs"]["build"]["steps"])
    return workflow


SPOILED = {
    "all rights": lambda flow, steps: flow.update(permissions="write-all"),
    "no rights stated": lambda flow, steps: flow.pop("permissions"),
    "no group": lambda flow, steps: flow.pop("concurrency"),
    "no limit": lambda flow, steps: flow["jobs"]["build"].pop("timeout-minutes"),
    "a job with rights": lambda flow, steps: flow["jobs"]["build"].update(permissions={"contents": "write"}),
    "a job that is not there": lambda flow, steps: flow["jobs"]["deploy"].update(needs="built"),
    "no environment": lambda flow, steps: flow["jobs"]["deploy"].pop("environment"),
    "another Python": lambda flow, steps: flow["jobs"]["build"].update(strategy={"matrix": {"python": ["3.10"]}}),
    "an old Python": lambda flow, steps: steps[1]["with"].update({"python-version": "3.10"}),
    "a number for a Python": lambda flow, steps: steps[1]["with"].update({"python-version": 3.11}),
    "no lock": lambda flow, steps: steps[1]["with"].update({"cache-dependency-path": "lock.txt"}),
    "a token that stays": lambda flow, steps: steps[0].pop("with"),
    "a branch of an action": lambda flow, steps: steps[0].update(uses="actions/checkout@main"),
    "no such target": lambda flow, steps: steps.append({"run": "make books"}),
    "no such script": lambda flow, steps: steps.append({"run": "python book/collab.py"}),
    "no such test": lambda flow, steps: steps.append({"run": ".venv/bin/pytest tests/test_none.py"}),
    "no such image": lambda flow, steps: steps.append({"run": "docker build book"}),
    "an injection": lambda flow, steps: steps.append({"run": "echo ${{ github.ref_name }}"}),
}


@pytest.mark.parametrize("change", SPOILED.values(), ids=SPOILED)
def test_a_spoiled_workflow_is_caught(change):
    assert check_workflow(spoil(lambda flow, steps: None)) == []
    assert len(check_workflow(spoil(change))) == 1


# The address


@pytest.fixture
def copied(tmp_path):
    """A repository of the files that hold the address, with the Makefile."""
    command = ["git", "grep", "-IlzF", "--untracked", "-e", address(ROOT), "-e", site(address(ROOT))]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip("\0").split("\0")
    for name in ["Makefile", *names]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    for command in (["init", "--quiet"], ["add", "--all", "--force"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    return tmp_path


def address(folder):
    return yaml.safe_load((folder / "_config.yml").read_text(encoding="utf-8"))["repository"]["url"][19:]


def site(address):
    return address.replace("/", ".github.io/")


def texts(folder):
    paths = [path for path in folder.rglob("*") if path.is_file() and ".git" not in path.relative_to(folder).parts]
    return {path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8") for path in paths}


def make(folder, *words):
    return subprocess.run(["make", *words], cwd=folder, capture_output=True, text=True, check=False)


def test_the_address_is_set_everywhere_by_one_command(copied):
    old = first = address(copied)
    before = texts(copied)
    chapters = {path.relative_to(ROOT).as_posix() for path in (ROOT / "notebooks").glob("[0-9]*.ipynb")}
    named = {"README.md", "CITATION.cff", "pyproject.toml", "SECURITY.md", ".github/ISSUE_TEMPLATE/config.yml"}
    assert chapters | named | {"_config.yml"} <= set(before)
    for new in ("me/my.book", "some-one/another_book"):  # from the first on there is another to replace
        assert make(copied, "at", f"REPOSITORY={new}").returncode != 0
        assert make(copied, "address", f"REPOSITORY={new}").returncode == 0
        assert make(copied, "at", f"REPOSITORY={new}").returncode == 0
        after = texts(copied)
        assert address(copied) == new
        assert [name for name, text in after.items() if old in text or site(old) in text] == []
        for name, text in before.items():
            shown = re.sub(r"^<!-- (.*github\.io.*) -->$", r"\1", text, flags=re.M)
            assert after[name] == shown.replace(first, new).replace(site(first), site(new)), name
        assert f"\n[Read the book](https://{site(new)}/)" in after["README.md"]
        old = new


@pytest.mark.parametrize(
    "wrong", ["", "me", "me/", "me/a/b", "me/my book", "me/b|g; touch x", "https://github.com/me/b"]
)
def test_what_is_no_address_changes_nothing(copied, wrong):
    before = texts(copied)
    done = make(copied, "address", f"REPOSITORY={wrong}")
    assert done.returncode != 0
    assert "say which: make address REPOSITORY=" in done.stderr
    assert texts(copied) == before


# The container


def test_the_container_is_no_ones_root_and_keeps_the_packages_in_a_layer():
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    steps = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    base = re.fullmatch(r"python:(3\.\d+)-slim-\w+", dict(steps)["FROM"])
    assert base[1] in PYTHONS
    names = [step for step, _ in steps]
    copies = [what.split()[-2:] for step, what in steps if step == "COPY"]
    assert copies == [["requirements.txt", "./"], [".", "."]]
    install = next(i for i, (step, what) in enumerate(steps) if "--requirement" in what)
    assert names.index("COPY") < install < len(names) - 1 - names[::-1].index("COPY")
    assert dict(steps)["USER"] == "${NB_USER}"
    assert "ADD" not in names
    user = next(what.partition("=")[2] for step, what in steps if what.startswith("NB_USER="))
    plain = re.sub(r"^\s*//.*$", "", (ROOT / ".devcontainer/devcontainer.json").read_text(encoding="utf-8"), flags=re.M)
    container = json.loads(plain)
    assert (ROOT / ".devcontainer" / container["build"]["dockerfile"]).is_file()
    assert container["remoteUser"] == user


def test_the_container_gets_every_file_of_the_repository():
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    patterns = [line.removeprefix("**/") for line in lines if line and not line.startswith("#")]
    paths = [[name, *map(str, Path(name).parents)] for name in tracked()]
    left_out = [path[0] for path in paths for pattern in patterns if fnmatch.filter(path, pattern)]
    assert left_out == []
    assert {".venv", "_build", ".git/config"} <= set(patterns)


def test_the_pods_command_is_one_of_the_library(monkeypatch):
    (container,) = read("workflow/kubernetes.yaml")["spec"]["template"]["spec"]["containers"]
    from atexlib import __main__ as command_line
    from atexlib.experiments.engine import queue, results

    program, words = container["command"][:3], [*container["command"][3:], *container["args"]]
    assert program == ["python", "-m", "atexlib"]
    assert words[-1] == "$(JOB_COMPLETION_INDEX)"
    asked = {}
    monkeypatch.setattr(queue, "run", lambda specs, **options: asked.update(specs=specs, **options) or queue.Outcome())
    monkeypatch.setattr(results, "devices", lambda name: name)  # there may be no GPU here
    command_line.main([*words[:-1], "3"])
    assert asked["device"] == "cuda"
    assert {spec["preset"] for spec in asked["specs"]} == {"paper"}
    assert {spec["seed"] for spec in asked["specs"] if spec["kind"] == "table"} == {3}


# Hooks, templates, pages at the top


def test_the_hooks_are_the_projects_own():
    (repository,) = read(".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    for hook in repository["hooks"]:
        assert hook["language"] == "system"  # nothing is fetched
        assert hook["entry"].startswith(".venv/bin/")
        assert check_commands(hook["entry"]) == []
        assert any(re.search(hook.get("files", ""), name) for name in tracked())


def check_form(form):
    problems = [f"no {key}" for key in ("name", "description", "body") if not form.get(key)]
    fields = [field for field in form.get("body", []) if field["type"] != "markdown"]
    problems += [f"{f['type']}?" for f in fields if f["type"] not in ("input", "textarea", "dropdown", "checkboxes")]
    problems += [f"{field['id']} has no label" for field in fields if not field["attributes"].get("label")]
    names = [field["id"] for field in fields]
    return problems + [f"twice: {name}" for name in sorted(set(names)) if names.count(name) > 1]


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_a_form_can_be_filled_in(path):
    form = read(path)
    assert check_form(form) == []
    for spoiled in ({"name": ""}, {"body": form["body"] + form["body"][-1:]}):
        assert check_form(form | spoiled)


def test_the_citation_is_of_this_version():
    citation = read("CITATION.cff")
    assert citation["version"] == PROJECT["version"]
    assert citation["repository-code"] == PROJECT["urls"]["Source"] == read("_config.yml")["repository"]["url"]


def check_links(path, text):
    """Links of a page at the top that lead to no file."""
    aims = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", text)
    return [aim for aim in aims if not (path.parent / aim).exists()]


@pytest.mark.parametrize("path", sorted(ROOT.glob("*.md")), ids=lambda path: path.stem)
def test_links_of_the_pages_at_the_top_lead_somewhere(path):
    assert check_links(path, path.read_text(encoding="utf-8")) == []
    assert check_links(path, "See [that](NOWHERE.md) and [this](README.md).") == ["NOWHERE.md"]
