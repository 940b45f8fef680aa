"""What every test here starts from."""

import pytest
import torch


@pytest.fixture(autouse=True)
def same_start_and_threads():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # small inputs: waiting for threads would take most of the time
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)
