"""The keys of a network's ``state_dict()`` in PyTorch, known without torch: a layer's attribute, and its parameter."""

from __future__ import annotations

import keyword
import re

from zoo.layers import ModelSpec, Names
from zoo.shapes import parameter_table, tied

# What no layer can be called in a module: what `torch.nn.Module` has (of torch 2.13; what begins with two underscores
# is never asked for), and what the live and the generated modules have besides.
_TAKEN = """
    T_destination _apply _backward_hooks _backward_pre_hooks _buffers _call_impl _compiled_call_impl
    _forward_hooks _forward_hooks_always_called _forward_hooks_with_kwargs _forward_pre_hooks
    _forward_pre_hooks_with_kwargs _get_backward_hooks _get_backward_pre_hooks _get_name _is_full_backward_hook
    _load_from_state_dict _load_state_dict_post_hooks _load_state_dict_pre_hooks
    _maybe_warn_non_full_backward_hook _modules _named_members _non_persistent_buffers_set _parameters
    _register_load_state_dict_pre_hook _register_state_dict_hook _replicate_for_data_parallel
    _save_to_state_dict _slow_forward _state_dict_hooks _state_dict_pre_hooks _version _wrapped_call_impl
    add_module apply bfloat16 buffers call_super_init children compile cpu cuda double dump_patches eval
    extra_repr float forward get_buffer get_extra_state get_parameter get_submodule half ipu load_state_dict
    modules mtia named_buffers named_children named_modules named_parameters parameters register_backward_hook
    register_buffer register_forward_hook register_forward_pre_hook register_full_backward_hook
    register_full_backward_pre_hook register_load_state_dict_post_hook register_load_state_dict_pre_hook
    register_module register_parameter register_state_dict_post_hook register_state_dict_pre_hook requires_grad_
    set_extra_state set_submodule share_memory state_dict to to_empty train training type xpu zero_grad
    activations num_classes probabilities self _spec _calls _outputs _attributes _wiring
"""


def attribute_names(spec: ModelSpec) -> dict[str, str]:
    """Input or layer -> its Python name: the same, but where it is no identifier or belongs to `torch.nn.Module`."""
    wanted = [source.name for source in spec.inputs] + [layer.name for layer in spec.layers]
    free = Names(_TAKEN.split())
    # Names that can stay come first, so that a mended name never drives one of them away.
    ordered = sorted(wanted, key=lambda name: identifier(name) != name)
    return {name: free.numbered(identifier(name)) for name in ordered}


def identifier(name: str) -> str:
    """The nearest Python identifier: ``conv1/7x7`` -> ``conv1_7x7``."""
    # Two leading underscores would be mangled within a class.
    python = re.sub(r"^_+", "_", re.sub(r"[^0-9A-Za-z_]", "_", name))
    if python == "_":  # which a number would make __2
        return "_1"
    return f"_{python}" if not python or python[0].isdigit() or keyword.iskeyword(python) else python


def parameter_names(spec: ModelSpec) -> dict[str, str]:
    """Canonical parameter name -> its key in the module's ``state_dict()``."""
    attributes = attribute_names(spec)
    return {
        canonical: f"{attributes[canonical.rpartition('.')[0]]}.{row.torch}"
        for canonical, row in parameter_table(spec).items()
    }


def tied_keys(spec: ModelSpec) -> list[tuple[str, str]]:
    """The keys of ``state_dict()`` that are the tensor of another key, with that key."""
    names = parameter_names(spec) if spec.ties else {}
    return [(names[twin], names[owner]) for twin, owner in tied(spec).items()]
