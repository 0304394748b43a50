"""Baidu's models."""

from byenatos_sdk.formats import qianfan
from byenatos_sdk.http import HTTPDriver


class Baidu(HTTPDriver):
    """ERNIE, by Qianfan's API v2."""

    format = qianfan
    base_url = "https://qianfan.baidubce.com/v2"
