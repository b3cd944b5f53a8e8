"""A vision-language model of transformers' own, small and untrained, in a folder."""

from pathlib import Path

import torch

WORDS = ("<pad>", "<s>", "</s>", "<unk>", "<image>", "USER", "ASSISTANT", "ink", "oil", "soft;dark")
TEMPLATE = (
    "{% for m in messages %}USER {% for c in m['content'] %}{% if c['type'] == 'image' %}<image> "
    "{% else %}{{ c['text'] }} {% endif %}{% endfor %}{% endfor %}ASSISTANT"
)


def write_vlm(folder: Path) -> Path:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        PreTrainedTokenizerFast,
    )
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    known = {word: number for number, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(known, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessorPil(
            size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
        ),
        tokenizer=PreTrainedTokenizerFast(
            tokenizer_object=tokenizer,
            pad_token="<pad>",
            bos_token="<s>",
            eos_token="</s>",
            unk_token="<unk>",
            additional_special_tokens=["<image>"],
        ),
        patch_size=16,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )
    narrow = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            **narrow, num_attention_heads=2, image_size=32, patch_size=16
        ),
        text_config=LlamaConfig(
            **narrow, vocab_size=len(WORDS), num_attention_heads=2, num_key_value_heads=2
        ),
        image_token_index=known["<image>"],
    )
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = LlavaForConditionalGeneration(config)
    model.generation_config.suppress_tokens = [0, 1, 2, 3, 4]  # words only
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
