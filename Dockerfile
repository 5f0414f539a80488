# The environment of the book, with the book in it:
#
#     docker build --tag atex-book .                                                          without a GPU
#     docker build --build-arg TORCH=https://download.pytorch.org/whl/cu130 --tag atex-book . with one
#     docker run --rm --publish 127.0.0.1:8888:8888 atex-book                                 JupyterLab; it prints its address
#     docker run --rm atex-book make book OUT=/tmp/out                                        or any other command
#
# Binder and dev containers build it too.
FROM python:3.11-slim-bookworm

# make, for the book's commands; git, by which results know their commit.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git make \
    && rm -rf /var/lib/apt/lists/*

# Binder passes its own name and number.
ARG NB_USER=reader
ARG NB_UID=1000
RUN useradd --create-home --uid "${NB_UID}" "${NB_USER}" \
    && mkdir /book \
    && chown "${NB_USER}:" /book
ENV HOME=/home/${NB_USER} PATH=/book/.venv/bin:${PATH}
WORKDIR /book
USER ${NB_USER}

# The packages, in a layer that only a change of the lock makes anew. TORCH is an index of PyTorch's builds. What such a
# build needs of CUDA it says itself, so the lock's own choice is left out.
ARG TORCH=https://download.pytorch.org/whl/cpu
COPY --chown=${NB_USER} requirements.txt ./
RUN python -m venv .venv \
    && grep --extended-regexp --invert-match '^(-e|cuda-|nvidia-|triton)' requirements.txt > /tmp/lock \
    && .venv/bin/pip install --no-cache-dir --extra-index-url "${TORCH}" --requirement /tmp/lock \
    && .venv/bin/pip install --no-cache-dir --constraint /tmp/lock jupyterlab==4.6.6 notebook==7.6.5 \
    && rm /tmp/lock

# Then the book. The library is installed in place, so that a change in src/ is seen.
COPY --chown=${NB_USER} . .
RUN .venv/bin/pip install --no-cache-dir --no-build-isolation --no-deps --editable . \
    && touch .venv/.ready

EXPOSE 8888
CMD ["jupyter", "lab", "--ip=0.0.0.0", "--no-browser"]
