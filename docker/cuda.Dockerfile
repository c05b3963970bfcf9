# attngraft with CUDA, from PyTorch's own image. Written without a machine to build it on: see RELEASING.md.
# docker run --gpus all --shm-size 8g -v "$PWD:/home/user/work" -w /home/user/work attngraft:cuda train model=...
FROM pytorch/pytorch:2.11.0-cuda12.8-cudnn9-runtime
RUN apt-get update && apt-get install --yes --no-install-recommends libgl1 libglib2.0-0 && rm -rf /var/lib/apt/lists/*
COPY . /src
RUN pip install --no-cache-dir '/src[study,export]'
RUN useradd --create-home user
USER user
WORKDIR /home/user
ENTRYPOINT ["attngraft"]
CMD ["--help"]
