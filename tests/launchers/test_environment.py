"""The environment of a rank: allowed names, own threads, own device."""

from __future__ import annotations

from nbaas.launchers.environment import allowed_environment, rank_environment
from nbaas.records import JobSpec, Slot


def spec(**env: str) -> JobSpec:
    slots = (Slot(0, 0, 2, "a", threads=3, gpu=0), Slot(1, 1, 2, "a", threads=3, gpu=1))
    return JobSpec("id-1", "name", "ddp", slots, 0.0, env=env)


def test_p64_tokens_stay_behind_unless_the_user_names_them():
    environ = {
        "PATH": "/bin",
        "JUPYTERHUB_API_TOKEN": "canary",
        "AWS_SECRET_ACCESS_KEY": "canary",
        "CUDA_API_KEY": "canary",
        "HF_TOKEN": "wanted",
        "LC_ALL": "C",
        "HOME": "/home/u",
    }
    assert allowed_environment(environ) == {"PATH": "/bin", "LC_ALL": "C", "HOME": "/home/u"}
    assert allowed_environment(environ, ["HF_TOKEN"])["HF_TOKEN"] == "wanted"


def test_a_rank_has_its_share_of_the_cores_and_the_tag_of_its_job():
    env = rank_environment(spec(), spec().slots[0], {})
    assert (env["OMP_NUM_THREADS"], env["MKL_NUM_THREADS"]) == ("3", "3")
    assert env["NBAAS_JOB"] == "id-1"


def test_a_rank_sees_its_own_gpu_only_as_the_kernel_counts_them():
    assert [rank_environment(spec(), s, {})["CUDA_VISIBLE_DEVICES"] for s in spec().slots] == [
        "0",
        "1",
    ]
    chosen = spec(CUDA_VISIBLE_DEVICES="5,GPU-7f")
    devices = [rank_environment(chosen, s, {})["CUDA_VISIBLE_DEVICES"] for s in chosen.slots]
    assert devices == ["5", "GPU-7f"]


def test_a_rank_on_the_cpu_sees_no_gpu():
    assert rank_environment(spec(), Slot(0, 0, 1, "a"), {})["CUDA_VISIBLE_DEVICES"] == ""


def test_all_ranks_order_a_set_of_strings_alike():
    assert len({rank_environment(spec(), s, {})["PYTHONHASHSEED"] for s in spec().slots}) == 1


def test_what_the_engine_needs_wins():
    env = rank_environment(spec(HOROVOD_RANK="9"), spec().slots[1], {"HOROVOD_RANK": "1"})
    assert env["HOROVOD_RANK"] == "1"
