"""Pictures of tests are too small for two threads, which would only wait for one another."""

import cv2
import pytest


@pytest.fixture(autouse=True)
def one_thread_of_opencv():
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    yield
    cv2.setNumThreads(before)
