# attngraft on a machine without an accelerator. Written without a machine to build it on: see RELEASING.md.
FROM python:3.12-slim
RUN apt-get update && apt-get install --yes --no-install-recommends libgl1 libglib2.0-0 && rm -rf /var/lib/apt/lists/*
COPY . /src
# PyTorch's CPU build is much smaller: pass the option of pip that names its index as --build-arg TORCH_INDEX
ARG TORCH_INDEX=""
RUN pip install --no-cache-dir torch torchvision $TORCH_INDEX \
    && pip install --no-cache-dir --constraint /src/constraints.txt '/src[study,export]'
RUN useradd --create-home user
USER user
WORKDIR /home/user
ENV OMP_NUM_THREADS=1
ENTRYPOINT ["attngraft"]
CMD ["--help"]
