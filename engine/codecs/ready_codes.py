"""The codes that are known before an image is seen, one per bin of spreads: lengths of symbols, and headers.

``tests/engine/codecs/test_ready_codes.py`` derives them again. They are data, since another code that is as good, such
as one that breaks a tie in another way, would change the bytes of every image.
"""

from typing import Final

SYMBOL_LENGTHS: Final = (
    (
        "4235678abcccccccdddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"
        "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"
        "ddddddddddddddccccccccccccccccccccccccccccccccccba8764329"
    ),
    (
        "4334556677889aabbcccdddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"
        "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"
        "ddddddddddddddddddddddddddddddddddddcccbbbaa988766654433a"
    ),
    (
        "444455556666777788889999aaaabbbbbccccccddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"
        "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"
        "dddddddddddddddddcccccccbbbbaaaaa99998888777666665554444a"
    ),
    (
        "4545555666666667777777778888888899999999aaaaaaaabbbbbbbbbbcccccccccccddddddddddddddddddddddddddddddd"
        "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddccccccccccccb"
        "bbbbbbbbaaaaaaaaa999999998888888877777777766666666555555a"
    ),
    (
        "4656666666666677777777777777778888888888888888899999999999999999aaaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbbbb"
        "bccccccccccccccccccccccddddddddddcccccccccccccccccccccccbbbbbbbbbbbbbbbbbbbaaaaaaaaaaaaaaaaaa9999999"
        "99999999998888888888888888877777777777777776666666666666a"
    ),
    (
        "475777777777777777777777777777888888888888888888888888888888888899999999999999999999999999999999999a"
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa999999999999999999999999999999999998888888"
        "88888888888888888888888888877777777777777777777777777777a"
    ),
    (
        "323579acdddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"
        "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"
        "ddddddddddddddddddddddddddddddddddddddddddddddddcba86532a"
    ),
    (
        "333455677889aabbccdddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"
        "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"
        "ddddddddddddddddddddddddddddddddddddddccbbbaa98876655433a"
    ),
    (
        "2445555666777788889999aaaabbbbbccccddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"
        "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"
        "dddddddddddddddddddddcccccbbbbaaaaa999988887776666555544a"
    ),
    (
        "2545666666667777777778888888899999999aaaaaaaabbbbbbbbbbccccccccccddddddddddddddddddddddddddddddddddd"
        "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddccccccccc"
        "ccbbbbbbbbbbaaaaaaaa999999998888888877777777766666666555a"
    ),
    (
        "2656666677777777777777778888888888888888899999999999999999aaaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbbbbcccccc"
        "cccccccccccccccddddddddddddddddddddddddddccccccccccccccccccccccbbbbbbbbbbbbbbbbbbbaaaaaaaaaaaaaaaaa9"
        "99999999999999998888888888888888877777777777777776666666a"
    ),
    (
        "2757777777777777788888888888888888888888888888888889999999999999999999999999999999999aaaaaaaaaaaaaaa"
        "aaaaaaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa9999999999999999999999999999"
        "99999988888888888888888888888888888888887777777777777777a"
    ),
    (
        "1345789abccccddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"
        "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"
        "dddddddddddddddddddddddddddddddddddddddddddcccccba9875439"
    ),
    (
        "14455677889aabbccddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"
        "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"
        "dddddddddddddddddddddddddddddddddddddddcccbbaa9887665544a"
    ),
    (
        "15456666777788889999aaaabbbbbccccddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"
        "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"
        "dddddddddddddddddddddddcccccbbbbbaaaa9999888877766666555a"
    ),
    (
        "1656666677777777888888889999999aaaaaaaaabbbbbbbbbcccccccccccdddddddddddddddddddddddddddddddddddddddd"
        "ddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddcccc"
        "cccccccbbbbbbbbbbaaaaaaaa9999999988888888777777776666666a"
    ),
    (
        "175777777777778888888888888888899999999999999999aaaaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbbbcccccccccccccccc"
        "ccccccddddddddddddddddddddddddddddddddddddddddddddccccccccccccccccccccccbbbbbbbbbbbbbbbbbbbaaaaaaaaa"
        "aaaaaaaaa99999999999999999888888888888888877777777777777a"
    ),
    (
        "185888888888888888888888888888889999999999999999999999999999999999aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
        "abbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa9999999999"
        "99999999999999999999999998888888888888888888888888888888a"
    ),
    (
        "133678abcccccccddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"
        "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"
        "dddddddddddddddddccccccccccccccccccccccccccccccccba876539"
    ),
    (
        "144556778899aabbbccccddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"
        "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"
        "dddddddddddddddddddddddddddddddddddcccccbbbaa988877655449"
    ),
    (
        "15456666777788889999aaaaabbbbbcccccccccddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"
        "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"
        "dddddddddddddddddccccccccccbbbbbaaaaa99998887777766665559"
    ),
    (
        "1646666777777788888888899999999aaaaaaaaabbbbbbbbbbcccccccccccccddddddddddddddddddddddddddddddddddddd"
        "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddccccccc"
        "cccccccbbbbbbbbbbaaaaaaaaa999999998888888877777777666666a"
    ),
    (
        "175777777777778888888888888888999999999999999999aaaaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbbbbbbbcccccccccccc"
        "cccccccccccccccccccddddddddddddddddddccccccccccccccccccccccccccccccccbbbbbbbbbbbbbbbbbbbbbbaaaaaaaaa"
        "aaaaaaaaa999999999999999998888888888888888877777777777779"
    ),
    (
        "185888888888888888888888888888899999999999999999999999999999999999aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
        "aaaabbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa9999999999"
        "999999999999999999999999998888888888888888888888888888889"
    ),
)
"""For each code the length of the 256 bytes and of the end of the block, in bits, a hexadecimal digit each."""

HEADS: Final = (
    (316, "780105c103807569966dd13dd7776e64b59f6ddbb66ddbb66ddbb66ddb36dbb68dcab867aff98f01"),
    (393, "780105c103802d599635e0bdd63e27e2decc57d53d33bf6ddbb66ddbb66ddbb66ddbb66dce4c7757bdcc1b1167efb5eafb00"),
    (340, "780105c103a06c499628d08dc041e2e2a1d01a7edbb66ddbb66ddbb66ddb36c68dd2c345661e45c446ad05"),
    (369, "780105c103802459b630e073cf4538d299e56af778d678d66fdbb66ddbb66d1bcf5cef8e67da5dae7466382ee7fb00"),
    (316, "780105c1038025699a28d02ffeb0ae8db455b6dad6d89eb58d67ac6d8dedb659b6d2d6b511769f03"),
    (271, "780105c1038023561400c0971fdb4ed6b68db36dabb66ddbd6d9b6b5b66dc4b6d519"),
    (297, "780105c103a06dc9826cd19891fb567fdbb66ddbb66ddbb66ddbb66ddbb6cd7e7556c6ac3100"),
    (378, "780105c1038075499a34e0887833cfbd555ff7ccee6fdbb66ddbb66ddbb66ddbb66ddbd89d99eeafea9e93f946f4f300"),
    (352, "780105c103a02cd992b0d12f6223330b07178da7c16fdbb66ddbb66ddbb66ddb36470fad8b83aa4a6c44f45a"),
    (366, "780105c1038024c9bab0e137be4867b9aadde359ef31aef1dbb66ddbb66ddb36af758cf58ea7dde5aa7446c43e0f"),
    (322, "780105c103a02de962a0d1affed2b6716c5d5b6debd98eed646c7b621bcf76dbbab68ead6da3dc6b01"),
    (281, "780105c1038023580240c1971f3b6ddbc6d8b6b1b66d9d8db56d736cdb68db366263ab00"),
    (315, "780105c103a0255a9625c058fbdc97bf1a63dbb66ddbb66ddbb66ddbb66ddbf6b4eae7bb67af8c00"),
    (365, "780105c1038075499230d0139179dfabfaba67767fdbb66ddbb66ddbb66ddbb66ddbe6eece747f55efdecc883e07"),
    (339, "780105c103a06cb9ba30c0ca9785c6c6c1e0eae1b76ddbb66ddbb66ddbb66ddb78ba1a1c6c74f75292a902"),
    (337, "780105c103806467a230d073bfab72b57b1c27ebdd67fdb66ddbb66ddbb66de3596bc4194fbbcb759d7300"),
    (303, "780105c103a024588220c0c897d6b755b6dae6d85cdb38dbb67d6b1b63bb6d96ad6f23edec08"),
    (261, "780105c1036020d60200b0f4d5b675b66dccb6ad6fdbb6cdd9b675b66dd5b6bd04"),
    (304, "780105c103807569822cc0c83cb77ad6cfb66ddbb66ddbb66ddbb66ddb58dbf64ed73d5ffe11"),
    (372, "780105c10380a449b630d0736fc49759d53db3bb0fbf6ddbb66ddbb66ddbb66ddbb66d3cedee4c5755e617716f9f03"),
    (345, "780105c10380654b9a30c0c82f0f2e0a8da7d17af7b76ddbb66ddbb66ddbb66d638dd153a3aaae0e32b32300"),
    (340, "780105c1038064879a30d073bf8b72bb7b3c71f28cb57fdbb66ddbb66ddb36d6de67c4c978da5daecb9c03"),
    (298, "780105c1038024588228c0c89756d9689b63736de36cdbdfe6d9b66f6d636cb6adb295764700"),
    (265, "780105c1036018d60200c0cb8b6da3b66dcdb6ed7ddbb6cdd9b6bddab619db66ef00"),
)
"""For each code zlib's header and the block's, which sends those lengths: the number of bits, and hexadecimal bytes."""
