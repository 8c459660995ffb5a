from typing_extensions import CapsuleType

ops: CapsuleType

def owns_context() -> bool: ...
