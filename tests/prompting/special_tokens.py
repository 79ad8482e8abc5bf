"""Special tokens of language models by family, as their tokenizers name them (tokenizer_config.json, added_tokens)."""

from __future__ import annotations

SPECIAL_TOKENS: dict[str, tuple[str, ...]] = {
    "Llama 2": ("<s>", "</s>", "<unk>", "[INST]", "[/INST]", "<<SYS>>", "<</SYS>>", "▁<PRE>", "▁<SUF>", "▁<MID>"),
    "Llama 3": (
        *("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        *("<|eom_id|>", "<|python_tag|>", "<|finetune_right_pad_id|>", "<|reserved_special_token_7|>", "<|image|>"),
    ),
    "Llama 4": ("<|header_start|>", "<|header_end|>", "<|eot|>", "<|image_start|>", "<|tile_x_separator|>"),
    "Qwen": (
        *("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|vision_start|>", "<|image_pad|>", "<|object_ref_start|>"),
        *("<|box_end|>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>"),
        *("<|fim_prefix|>", "<|repo_name|>", "<|file_sep|>", "<tts_pad>"),
    ),
    "Mistral": (
        *("[INST]", "[/INST]", "[TOOL_CALLS]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]"),
        *("[/TOOL_RESULTS]", "[IMG]", "[IMG_BREAK]", "[IMG_END]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[PREFIX]"),
        *("[MIDDLE]", "[SUFFIX]", "[TOOL_CONTENT]", "[CALL_ID]", "[ARGS]", "[THINK]", "[/THINK]", "[AUDIO]"),
        *("[BEGIN_AUDIO]", "<SPECIAL_20>", "[control_8]"),
    ),
    "Gemma": (
        *("<bos>", "<eos>", "<pad>", "<unk>", "<mask>", "<start_of_turn>", "<end_of_turn>", "<unused0>", "[@BOS@]"),
        *("[multimodal]", "<start_of_image>", "<end_of_image>", "<image_soft_token>", "<table>", "</h6>", "<0x0A>"),
        *("<loc0001>", "<seg001>", "<start_function_call>"),
    ),
    "Phi": (
        *("<|endoftext|>", "<|assistant|>", "<|user|>", "<|system|>", "<|end|>", "<|placeholder1|>", "<|im_sep|>"),
        *("<|tool_call|>", "<|/tool_call|>", "<|tag|>", "<|dummy_85|>", "<|endofprompt|>", "<|image_1|>"),
    ),
    "DeepSeek": (
        *(
            "<｜begin▁of▁sentence｜>",
            "<｜end▁of▁sentence｜>",
            "<｜User｜>",
            "<｜Assistant｜>",
            "<｜tool▁calls▁begin｜>",
        ),
        *("<｜tool▁sep｜>", "<｜fim▁hole｜>", "<|EOT|>", "<think>", "<｜place▁holder▁no▁0｜>", "<|▁pad▁|>"),
    ),
    "GPT and harmony": (
        *("<|endoftext|>", "<|fim_middle|>", "<|endofprompt|>", "<|start|>", "<|end|>", "<|message|>", "<|channel|>"),
        *("<|constrain|>", "<|return|>", "<|call|>", "<|startoftext|>", "<|reserved_200013|>"),
    ),
    "Command R": (
        *("<PAD>", "<UNK>", "<CLS>", "<SEP>", "<MASK_TOKEN>", "<BOS_TOKEN>", "<EOS_TOKEN>", "<EOP_TOKEN>"),
        *("<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>", "<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>"),
        *("<|SYSTEM_TOKEN|>", "<|START_THINKING|>", "<|START_ACTION|>", "<|EXTRA_0_TOKEN|>", "<|YES_TOKEN|>"),
    ),
    "GLM": ("[gMASK]", "[sMASK]", "<sop>", "<eop>", "<|observation|>", "<|begin_of_image|>", "<arg_key>"),
    "Falcon": (">>TITLE<<", ">>ABSTRACT<<", ">>QUESTION<<", ">>ANSWER<<", "<|endoftext|>"),
    "InternLM": ("<|action_start|>", "<|plugin|>", "[UNUSED_TOKEN_146]", "<eoh>", "<eoa>", "<IMG_CONTEXT>", "<ref>"),
    "OLMo": ("|||IP_ADDRESS|||", "|||EMAIL_ADDRESS|||", "|||PHONE_NUMBER|||", "<|padding|>"),
    "EXAONE": ("[|system|]", "[|user|]", "[|assistant|]", "[|endofturn|]", "[BOS]", "[PAD]"),
    "Kimi": (
        "[BOS]",
        "[EOS]",
        "[EOT]",
        "<|im_user|>",
        "<|im_middle|>",
        "<|tool_calls_section_begin|>",
        "[start_header_id]",
    ),
    "MiniMax": ("]~!b[", "]~b]", "[e~[", "]!p~[", "<minimax:tool_call>"),
    "Granite": ("<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>", "<|tool_call|>", "<fim_prefix>"),
    "StarCoder and SmolLM": ("<repo_name>", "<gh_stars>", "<jupyter_output>", "<issue_comment>", "<empty_output>"),
    "T5 and BERT": ("<extra_id_0>", "[CLS]", "[SEP]", "[MASK]", "[unused1]", "▁<extra_id_1>"),
    "MiniCPM and Seed": ("<用户>", "<AI>", "<seed:bos>", "<seed:think>", "<image_id>", "<|tool_sep|>"),
    "MADLAD and Whisper": ("<2de>", "<|notimestamps|>", "<|0.00|>", "<|en|>"),
    "Florence and Kosmos": ("<loc_999>", "<poly>", "<patch_index_0001>", "<grounding>", "</phrase>", "<od>"),
}
"""Family -> some of its tokens, each kind of spelling at least once."""
